//! Several servers in one process, each with a database of its own, that talk to each other without a network.

#[cfg(test)]
#[path = "../shared/counts.rs"]
mod counts;
#[cfg(test)]
mod history;
#[cfg(test)]
mod inviting;
#[cfg(test)]
mod joining;
#[cfg(test)]
mod knocking;
#[cfg(test)]
mod network;
#[cfg(test)]
mod reading;
#[cfg(test)]
mod server;
