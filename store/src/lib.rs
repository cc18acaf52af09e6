//! Every line of SQL, one module per table; the pool and the private PostgreSQL.
//!
//! A function here is one statement with types: it knows no service, opens no transaction and decides nothing.

pub mod event;
pub mod room;
pub mod snapshot;
pub mod write;
