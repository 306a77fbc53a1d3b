//! Several receivers that share one PostgreSQL.

mod harness;
