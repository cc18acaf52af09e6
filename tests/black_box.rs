//! The program as its operators start it: a process of its own, asked over real sockets.

#[cfg(test)]
mod black_box {
    mod clients;
    mod crash;
    #[path = "../shared/ports.rs"]
    mod ports;
    mod process;
    mod redis;
    mod together;
}
