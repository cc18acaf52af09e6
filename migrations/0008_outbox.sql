-- Work that one process does at a time. One row for each kind of work.
CREATE TABLE lease (
    name text PRIMARY KEY,
    holder bigint NOT NULL,
    -- Milliseconds since the Unix epoch by the clock of the database.
    until_ts bigint NOT NULL
);

-- Up to where the log's events are noted down for their destinations. One row.
CREATE TABLE outbox_cursor (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    position bigint NOT NULL
);

-- Other servers, and how sending to them goes. One row for each server that was ever to get something.
CREATE TABLE destination (
    nid bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    server_name text NOT NULL UNIQUE,
    -- How often it failed in a row.
    failures integer NOT NULL DEFAULT 0,
    -- When it is tried again, if it failed.
    retry_ts bigint NOT NULL DEFAULT 0
);
CREATE INDEX destination_retry ON destination (retry_ts) WHERE failures > 0;

-- Events that a server has yet to get, oldest first. A row goes when they are delivered. Bounded: of each room the newest
-- thousand, of rooms of a server that fails the newest ten, which lead it to the rest.
CREATE TABLE outbox_room (
    destination_nid bigint NOT NULL,
    room_nid bigint NOT NULL,
    events bigint[] NOT NULL,
    PRIMARY KEY (destination_nid, room_nid)
);

-- Messages to devices that a server has yet to get. A row goes when it is delivered; pruned after 30 days.
CREATE TABLE outbox_message (
    nid bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    destination_nid bigint NOT NULL,
    -- The EDU.
    edu text NOT NULL,
    created_ts bigint NOT NULL
);
CREATE INDEX outbox_message_destination ON outbox_message (destination_nid, nid);
CREATE INDEX outbox_message_created ON outbox_message (created_ts);

-- Transactions of other servers that were worked through, with the answer, for when they are repeated. Pruned after a day.
CREATE TABLE inbound_transaction (
    origin text NOT NULL,
    txn_id text NOT NULL,
    answer text NOT NULL,
    received_ts bigint NOT NULL,
    PRIMARY KEY (origin, txn_id)
);
CREATE INDEX inbound_transaction_received ON inbound_transaction (received_ts);

-- Messages to devices that came from other servers, so that a repeated one is delivered once. Pruned after a day.
CREATE TABLE inbound_message (
    sender text NOT NULL,
    message_id text NOT NULL,
    received_ts bigint NOT NULL,
    PRIMARY KEY (sender, message_id)
);
CREATE INDEX inbound_message_received ON inbound_message (received_ts);
