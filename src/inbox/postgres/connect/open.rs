//! Opening a connection to the first host that is writable.

use std::future::poll_fn;
use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{AsyncMessage, Client, Config, NoTls, Socket};

use super::durability;
use super::error::{ConnectError, HostError};
use super::tls::Tls;
use super::{PoolState, error};
use crate::inbox::settings::Host;

/// The time from the open socket to the checked connection.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(3);

/// The task that reads and writes a connection. It returns an error if livehook did not end it.
pub(super) type Driver = JoinHandle<Result<(), tokio_postgres::Error>>;

impl PoolState {
    /// Opens a connection. Returns also the index of its host.
    pub(super) async fn open(
        &self,
        notifications: Option<mpsc::Sender<String>>,
    ) -> Result<(Client, usize, Driver), ConnectError> {
        let hosts = &self.settings.cluster.hosts;
        let preferred = self.preferred.load(Relaxed);
        let mut failed = Vec::new();
        for index in (preferred..hosts.len()).chain(0..preferred) {
            match self.try_host(&hosts[index], notifications.clone()).await {
                Ok((client, driver)) => {
                    self.preferred.store(index, Relaxed);
                    return Ok((client, index, driver));
                }
                Err(problem) => failed.push((index, problem)),
            }
        }
        Err(self.error(failed))
    }

    async fn try_host(
        &self,
        host: &Host,
        notifications: Option<mpsc::Sender<String>>,
    ) -> Result<(Client, Driver), HostError> {
        let connect_timeout = host.config.get_connect_timeout().copied();
        let limit = connect_timeout.unwrap_or_default() + HANDSHAKE_WITHIN;
        let opening = async {
            let (client, driver) = match &self.tls {
                Tls::Off => connect(&host.config, NoTls, notifications).await,
                Tls::On(tls) => connect(&host.config, tls.clone(), notifications).await,
            }
            .map_err(|error| HostError::from_connecting(&error))?;
            let durability =
                durability::ask_server(&client, self.settings.allow_async_commit).await?;
            let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
            if logged.insert(durability.meaning.clone()) {
                durability.log(&host.name);
            }
            Ok((client, driver))
        };
        timeout(limit, opening)
            .await
            .unwrap_or_else(|_| Err(HostError::timed_out()))
    }

    /// The errors of the hosts in one message.
    pub(super) fn error(&self, failed: Vec<(usize, HostError)>) -> ConnectError {
        let cluster = &self.settings.cluster;
        // A host that is away or a standby may become writable, so it helps to wait.
        let setup = failed.iter().all(|(_, failed)| failed.is_setup);
        let messages: Vec<_> = failed
            .iter()
            .map(|(index, failed)| format!("{}: {}", cluster.hosts[*index].name, failed.problem))
            .collect();
        let message = format!(
            "cannot use database `{}` as role `{}`: {}",
            cluster.database,
            cluster.role,
            messages.join("; ")
        );
        match setup {
            true => ConnectError::Setup(message),
            false => ConnectError::Away(message),
        }
    }
}

async fn connect<T>(
    config: &Config,
    tls: T,
    notifications: Option<mpsc::Sender<String>>,
) -> Result<(Client, Driver), tokio_postgres::Error>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
    T::TlsConnect: Send,
    <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
{
    let (client, connection) = config.connect(tls).await?;
    Ok((client, tokio::spawn(drive(connection, notifications))))
}

async fn drive<S, T>(
    mut connection: tokio_postgres::Connection<S, T>,
    notifications: Option<mpsc::Sender<String>>,
) -> Result<(), tokio_postgres::Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
        match message? {
            AsyncMessage::Notification(notification) => {
                if let Some(notifications) = &notifications {
                    let _ = notifications.try_send(notification.payload().to_owned());
                }
            }
            AsyncMessage::Notice(notice) => {
                tracing::debug!(notice = error::text(&notice), "a notice from PostgreSQL");
            }
            _ => {}
        }
    }
    Ok(())
}
