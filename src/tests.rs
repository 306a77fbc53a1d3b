//! Tests of several modules at once.

mod fuzz;
