//! Why there is no connection, and whether it helps to wait.

use std::error::Error as _;
use std::io;

use tokio_postgres::Error;
use tokio_postgres::error::{DbError, SqlState};

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::inbox::postgres) enum ConnectError {
    /// The operator has to change something.
    #[error("{0}")]
    Setup(String),
    /// The server may come back.
    #[error("{0}")]
    Away(String),
}

/// The error of one host.
#[derive(Debug)]
pub(super) struct HostError {
    /// Whether the operator has to change something.
    pub(super) is_setup: bool,
    pub(super) problem: String,
}

impl HostError {
    pub(super) fn setup(problem: impl Into<String>) -> Self {
        Self {
            is_setup: true,
            problem: problem.into(),
        }
    }

    pub(super) fn away(problem: impl Into<String>) -> Self {
        Self {
            is_setup: false,
            problem: problem.into(),
        }
    }

    pub(super) fn timed_out() -> Self {
        Self::away("no answer in time")
    }

    pub(super) fn from_statement(error: &Error) -> Self {
        let is_setup = error.code().is_some_and(|code| {
            *code == SqlState::INSUFFICIENT_PRIVILEGE || is_in_class(code, &["28", "3D", "3F"])
        });
        let problem = cause(error);
        Self { is_setup, problem }
    }

    pub(super) fn from_connecting(error: &Error) -> Self {
        let problem = cause(error);
        let is_setup = match (error.code(), io_error(error)) {
            // Beside wrong logins, the classes that options of the URL can cause.
            (Some(code), _) => is_in_class(code, &["0A", "22", "28", "3D", "42"]),
            (None, Some(error)) => needs_operator(error),
            // Errors with a source are about TLS, passwords and methods of authentication.
            (None, None) => error.source().is_some(),
        };
        if problem == "server does not support TLS" {
            return Self::setup(
                "the server does not do TLS; turn it on there, or set sslmode=disable in the URL",
            );
        }
        Self { is_setup, problem }
    }
}

fn is_in_class(code: &SqlState, classes: &[&str]) -> bool {
    classes.iter().any(|class| code.code().starts_with(class))
}

fn io_error(error: &Error) -> Option<&io::Error> {
    error.source()?.downcast_ref()
}

/// Whether the certificate is not trusted or livehook may not open the socket. Other errors are those
/// of the network.
fn needs_operator(error: &io::Error) -> bool {
    match error.get_ref() {
        Some(inner) => inner.is::<rustls::Error>(),
        None => error.kind() == io::ErrorKind::PermissionDenied,
    }
}

/// Whether a statement's error says that its server accepts no more writes.
pub(super) fn ends_writes(error: &Error) -> bool {
    let codes = [
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::READ_ONLY_SQL_TRANSACTION,
    ];
    error.is_closed()
        || io_error(error).is_some()
        || error.code().is_some_and(|code| codes.contains(code))
}

/// The innermost reason in words.
pub(super) fn cause(error: &Error) -> String {
    if let Some(error) = error.as_db_error() {
        return text(error);
    }
    match error.source() {
        Some(cause) => cause.to_string(),
        None => error.to_string(),
    }
}

/// The server's message in one line.
pub(super) fn text(error: &DbError) -> String {
    let message = error.message().replace('\n', " ");
    match error.detail() {
        Some(detail) => format!("{message} ({})", detail.replace('\n', " ")),
        None => message,
    }
}
