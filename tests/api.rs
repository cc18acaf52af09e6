//! Tests of the HTTP interface, laid out by URL: through the real router, on a database of their own.

#[cfg(test)]
mod api {
    mod account;
    mod admin;
    mod chat;
    mod create_room;
    mod devices;
    mod directory;
    mod fallback;
    mod federation;
    mod federation_send;
    mod gateway;
    mod guests;
    mod handshakes;
    mod initial_sync;
    mod invite_permission;
    mod limits;
    mod login;
    mod membership;
    mod messages;
    mod null_characters;
    mod peer;
    mod presence;
    mod processes;
    mod profile;
    mod pushers;
    mod pushing;
    mod pushrules;
    mod receipts;
    mod redis;
    mod refresh;
    mod register;
    mod relations;
    mod report;
    mod room_counts;
    mod room_state;
    mod routes;
    mod send;
    mod server;
    mod server_notices;
    mod spaces;
    mod sync;
    mod sync_filters;
    mod sync_streams;
    mod to_device;
    mod upgrade;
    mod user;
    mod user_directory;
}
