//! livehook
pub mod admin;
pub mod auth;
pub mod callback;
pub mod cli;
pub mod clock;
pub mod config;
pub mod dispatch;
pub mod event;
pub mod handler;
pub mod handlers;
pub mod identity;
pub mod inbox;
pub mod ingress;
pub mod json;
pub mod kind;
pub mod log;
pub mod payload;
pub mod settings;
pub mod source;

/// Stands where the server will be.
pub fn serve_placeholder(_config: config::Config) -> anyhow::Result<()> {
    anyhow::bail!("this build has no server yet")
}
