//! The shared engine: one PostgreSQL behind many receivers.

// The store that uses them comes next.
#[cfg_attr(not(test), expect(dead_code, reason = "there is no store yet"))]
mod connect;
