//! The durable store.

pub mod settings;
