//! livehook
pub mod auth;
pub mod callback;
pub mod clock;
pub mod identity;
pub mod json;
pub mod kind;
pub mod settings;
pub mod source;
