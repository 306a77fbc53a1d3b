//! livehook
pub mod kind;
