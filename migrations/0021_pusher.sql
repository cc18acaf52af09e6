-- Whom users want to be told through what happens (Client-Server API, "Push notifications"). At most 50 a user. A row goes
-- when its user deletes it, when its gateway rejects it, and with the device that set it, whoever deletes that.
CREATE TABLE pusher (
    nid bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_nid bigint NOT NULL,
    -- NULL: it was set with a token without a device.
    device_id text,
    app_id text NOT NULL,
    pushkey text NOT NULL,
    kind text NOT NULL,
    app_display_name text NOT NULL,
    device_display_name text NOT NULL,
    profile_tag text,
    lang text NOT NULL,
    -- JSON, with the address of the gateway.
    data text NOT NULL,
    -- When it was last set.
    set_ts bigint NOT NULL,
    -- What the gateway was last told of unread messages and missed calls.
    unread bigint NOT NULL DEFAULT 0,
    missed_calls bigint NOT NULL DEFAULT 0,
    -- How often sending failed in a row, and when it is tried again.
    failures integer NOT NULL DEFAULT 0,
    retry_ts bigint NOT NULL DEFAULT 0,
    UNIQUE (app_id, pushkey, user_nid),
    FOREIGN KEY (user_nid, device_id) REFERENCES device ON DELETE CASCADE
);
CREATE INDEX pusher_device ON pusher (user_nid, device_id);
CREATE INDEX pusher_retry ON pusher (retry_ts) WHERE failures > 0;

-- What a pusher has yet to tell. A row goes when it is told. Bounded: the newest hundred events, of a gateway that fails the
-- newest ten.
CREATE TABLE push_queue (
    pusher_nid bigint PRIMARY KEY REFERENCES pusher ON DELETE CASCADE,
    -- Numbers of events, oldest first. A negative one is that of a room which this server is not in, and to which the user is
    -- invited.
    events bigint[] NOT NULL DEFAULT '{}',
    -- When each came, in the same order.
    queued bigint[] NOT NULL DEFAULT '{}',
    -- The place in the log at which the user last read something. Zero: not since the counts were told.
    read_position bigint NOT NULL DEFAULT 0
);

-- Up to where the log's events are noted down for pushers. One row.
CREATE TABLE push_cursor (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    position bigint NOT NULL
);
