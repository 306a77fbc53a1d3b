//! livehook
pub mod auth;
pub mod budget;
pub mod callback;
pub mod clock;
pub mod event;
pub mod handler;
pub mod identity;
pub mod inbox;
pub mod json;
pub mod kind;
pub mod metrics;
pub mod payload;
pub mod settings;
pub mod source;
