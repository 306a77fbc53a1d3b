//! Hands stored events to handlers.

pub mod settings;
