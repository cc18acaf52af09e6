//! The event DAG: build, authorise, resolve, persist, read history.
//!
//! Everything that happens in rooms is here, whoever asks for it: a client, a peer or an administrator. What users own
//! outside of rooms is in `users/`; who is told about what happened is decided above.

pub mod event;
pub mod snapshot;
pub mod version;
