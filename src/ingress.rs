//! The callback listener.

pub mod settings;
