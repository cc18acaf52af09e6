//! Interoperability: Hearth and a real Synapse, each a process of its own, federate over TLS on loopback.
//!
//! A case is played by a host, on whose server a room is made, and a guest; each case is played
//! twice, with the servers swapped. `docs/interoperability.md` lists the cases, and says how to run
//! one and how to read what went wrong.

fn main() -> std::process::ExitCode {
    interop::play()
}

#[cfg(test)]
mod interop {
    mod cases;
    mod certificates;
    mod hearth;
    mod homeserver;
    mod large_room;
    mod link;
    mod page;
    #[path = "../shared/ports.rs"]
    mod ports;
    mod request;
    mod scene;
    mod stage;
    mod synapse;
    mod sync;
    mod trials;
    mod user;

    pub(super) use trials::play;
}
