//! Other servers that mean no good, or are gone: what they cost a running server.

#[cfg(test)]
mod hostile {
    mod answers;
    #[path = "../federation/certificates.rs"]
    mod certificates;
    mod dead_servers;
    mod foreign_room;
    mod peer;
    #[path = "../shared/ports.rs"]
    mod ports;
    #[path = "../black_box/process.rs"]
    #[expect(dead_code, reason = "tests of crashes need more of it")]
    mod process;
    mod requests;
    mod waiting;
    mod watch;
}
