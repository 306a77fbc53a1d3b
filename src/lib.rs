//! livehook
pub mod kind;
pub mod wire;
