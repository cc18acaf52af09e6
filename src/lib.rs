//! The homeserver itself: command line, HTTP, start and stop.
//!
//! Rules of Matrix do not live here but on the floors below; a handler decodes, calls one service and encodes.

pub mod cli;
pub mod client;
pub mod federation;
pub mod http;
pub mod identity;
pub mod log;
pub mod metrics;
pub mod push_gateways;
pub mod server;
mod server_notices;
pub mod settings;
