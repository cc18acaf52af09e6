//! Ports that a server under test is told to listen on.

use std::{
    net::{Ipv4Addr, TcpListener},
    sync::atomic::{AtomicU16, Ordering},
};

/// The first port that may be given out, and how many follow it. They lie outside of the range that
/// outgoing connections come from, so that none of those takes a port before the server does, or
/// between its end and its next start.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// How many ports of this process were given out.
static GIVEN: AtomicU16 = AtomicU16::new(0);

/// A port of 127.0.0.1 that nobody listens on, and that no other test of this process is given.
pub(crate) fn free_port() -> u16 {
    // Test programs that run beside each other start at different places.
    let start = u16::try_from(std::process::id() * 61 % u32::from(COUNT)).unwrap();
    loop {
        let given = GIVEN.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (start + given % COUNT) % COUNT;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}
