//! The program as its operators start it: a process of its own, asked over real sockets.

#[path = "black_box/clients.rs"]
mod clients;
#[path = "black_box/crash.rs"]
mod crash;
#[path = "black_box/process.rs"]
mod process;
