//! livehook
pub mod kind;
pub mod wire;

// Expands the macros of the two above.
pub mod payload;
