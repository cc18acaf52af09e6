//! Tests of the HTTP interface, laid out by URL: through the real router, on a database of their own.

#[cfg(test)]
mod api {
    mod account;
    mod admin;
    mod devices;
    mod login;
    mod refresh;
    mod register;
    mod routes;
    mod server;
}
