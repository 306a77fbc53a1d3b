//! Notifications, where they come through.

use rand::random;
use tokio::sync::mpsc;

use super::*;

/// Notifications that nobody has taken yet; more are dropped.
const HEARD: usize = 256;

impl Pool {
    /// Listens on a channel, through a connection apart from the pool. The payloads come through the receiver, which ends when
    /// the connection does; when it is dropped, the connection ends. Nothing, if notifications do not come through: a pooler
    /// of transactions would take each for a fault, on whichever of its connections had been told to listen.
    pub(in crate::inbox::postgres) async fn listen(
        &self,
        channel: &str,
    ) -> Result<Option<mpsc::Receiver<String>>, ConnectError> {
        let (heard, mut receiver) = mpsc::channel(HEARD);
        let (client, host, mut driver) = self.0.open(Some(heard.clone())).await?;
        let say = async |statement: &str| {
            let refused = match timeout(ANSWERS_WITHIN, client.batch_execute(statement)).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => Refused::by_statement(&error),
                Err(_) => Refused::silent(),
            };
            Err(self.0.error(vec![(host, refused)]))
        };
        // Tried where nobody else calls.
        let trial = format!("livehook_{:032x}", random::<u128>());
        say(&format!("LISTEN {trial}")).await?;
        // From another connection: a pooler hands the answer to a statement on, with what comes during it.
        let caller = self.get().await?;
        let called = caller.batch_execute(&format!("NOTIFY {trial}")).await;
        called.map_err(|error| caller.failed(&error))?;
        caller.give_back();
        if timeout(ANSWERS_WITHIN, receiver.recv()).await.is_err() {
            say("UNLISTEN *").await?;
            return Ok(None);
        }
        let channel = channel.replace('"', "\"\"");
        say(&format!("LISTEN \"{channel}\"; UNLISTEN {trial}")).await?;
        tokio::spawn(async move {
            // It lives as long as somebody listens, though nothing more is asked of it.
            let _client = client;
            tokio::select! {
                _ = &mut driver => {}
                () = heard.closed() => {}
            }
        });
        Ok(Some(receiver))
    }
}
