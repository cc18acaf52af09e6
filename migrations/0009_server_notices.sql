-- The room in which the server tells a user something; a row an account at the most.
CREATE TABLE server_notice_room (
    user_nid bigint PRIMARY KEY,
    room_nid bigint NOT NULL
);
