//! Tests of the server as a whole: its start and end, its command line, its signals.

#[cfg(test)]
mod server {
    mod command_line;
    mod in_process;
    mod process;
    mod signals;
}
