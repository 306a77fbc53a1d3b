//! Notifications, where they arrive.

use rand::random;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::error::HostError;
use super::{ANSWERS_WITHIN, ConnectError, Pool};

/// Notifications that wait for their reader. More are dropped.
const MAX_UNREAD: usize = 256;

impl Pool {
    /// Listens on a channel, with a connection outside the pool. The receiver gets the payloads and
    /// ends when the connection ends. When it is dropped, the connection ends. None, if notifications
    /// do not arrive: a transaction pooler treats them as an error of the connection that listens.
    pub(in crate::inbox::postgres) async fn listen(
        &self,
        channel: &str,
    ) -> Result<Option<mpsc::Receiver<String>>, ConnectError> {
        let (notifications, mut receiver) = mpsc::channel(MAX_UNREAD);
        let (client, host, mut driver) = self.0.open(Some(notifications.clone())).await?;
        let execute = async |statement: &str| {
            let refused = match timeout(ANSWERS_WITHIN, client.batch_execute(statement)).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => HostError::from_statement(&error),
                Err(_) => HostError::timed_out(),
            };
            Err(self.0.error(vec![(host, refused)]))
        };
        // Try it on a channel that nobody else uses.
        let probe = format!("livehook_{:032x}", random::<u128>());
        execute(&format!("LISTEN {probe}")).await?;
        // Notify from another connection: a pooler passes on what comes during a statement of this one.
        let notifier = self.get().await?;
        let notified = notifier.batch_execute(&format!("NOTIFY {probe}")).await;
        notified.map_err(|error| notifier.classify(&error))?;
        notifier.give_back();
        if timeout(ANSWERS_WITHIN, receiver.recv()).await.is_err() {
            execute("UNLISTEN *").await?;
            return Ok(None);
        }
        let channel = channel.replace('"', "\"\"");
        execute(&format!("LISTEN \"{channel}\"; UNLISTEN {probe}")).await?;
        tokio::spawn(async move {
            // The connection ends when its client is dropped.
            let _client = client;
            tokio::select! {
                _ = &mut driver => {}
                () = notifications.closed() => {}
            }
        });
        Ok(Some(receiver))
    }
}
