//! livehook
pub mod auth;
pub mod callback;
pub mod clock;
pub mod event;
pub mod handler;
pub mod handlers;
pub mod identity;
pub mod json;
pub mod kind;
pub mod payload;
pub mod settings;
pub mod source;
