//! Notifications, where they come through.

use rand::random;
use tokio::sync::mpsc;

use super::*;

/// Notifications that nobody has taken yet; more are dropped.
const MAX_UNREAD: usize = 256;

impl Pool {
    /// Listens on a channel, through a connection apart from the pool. The payloads come through the receiver, which ends when
    /// the connection does; when it is dropped, the connection ends. Nothing, if notifications do not come through: a pooler
    /// of transactions would take each for a fault, on whichever of its connections had been told to listen.
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
        // Tried where nobody else calls.
        let probe = format!("livehook_{:032x}", random::<u128>());
        execute(&format!("LISTEN {probe}")).await?;
        // From another connection: a pooler hands the answer to a statement on, with what comes during it.
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
            // It lives as long as somebody listens, though nothing more is asked of it.
            let _client = client;
            tokio::select! {
                _ = &mut driver => {}
                () = notifications.closed() => {}
            }
        });
        Ok(Some(receiver))
    }
}
