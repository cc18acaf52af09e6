//! Tests with two servers of one process, which talk over TLS as servers do.

#[cfg(test)]
mod federation {
    mod certificates;
    mod directory;
    mod ephemera;
    mod hostile;
    mod invites;
    mod outages;
    mod pair;
    #[path = "../shared/ports.rs"]
    mod ports;
    mod rooms;
}
