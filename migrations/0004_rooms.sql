CREATE TABLE room (
    nid bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    room_id text NOT NULL UNIQUE,
    version text NOT NULL,
    -- Grows with every change of the current state: what compare-and-set guards.
    revision bigint NOT NULL DEFAULT 0,
    -- The current state (a snapshot); NULL until the room is joined.
    snapshot_nid bigint,
    -- Event nids without a successor.
    extremities bigint[] NOT NULL DEFAULT '{}',
    -- In the room directory.
    published boolean NOT NULL DEFAULT false
);
CREATE INDEX room_published ON room (nid) WHERE published;

-- Handed out in blocks to each process.
CREATE SEQUENCE event_nid INCREMENT BY 1000;
CREATE SEQUENCE snapshot_nid INCREMENT BY 100;

CREATE TABLE event (
    nid bigint PRIMARY KEY,
    room_nid bigint NOT NULL,
    event_id text NOT NULL UNIQUE,
    sender_nid bigint NOT NULL,
    type text NOT NULL,
    -- NULL: not a state event.
    state_key_nid bigint,
    depth bigint NOT NULL,
    origin_server_ts bigint NOT NULL,
    -- The place in the room's timeline: the log position for live events, negative for backfilled ones, NULL for
    -- outliers, rejected and soft-failed events.
    stream_order bigint,
    -- The state before the event; NULL for outliers.
    snapshot_nid bigint,
    auth bigint[] NOT NULL,
    -- 0 accepted, 1 soft-failed, 2 rejected.
    status smallint NOT NULL DEFAULT 0,
    -- The redaction that applies to the event.
    redacted_by bigint,
    -- The PDU as sent to other servers.
    json text NOT NULL
);
CREATE UNIQUE INDEX event_stream ON event (room_nid, stream_order) WHERE stream_order IS NOT NULL;
CREATE INDEX event_topological ON event (room_nid, depth, stream_order) WHERE stream_order IS NOT NULL;
CREATE INDEX event_time ON event (room_nid, origin_server_ts) WHERE stream_order IS NOT NULL;

-- A state: the changes to its parent, packed (rooms/src/snapshot.rs says how).
CREATE TABLE snapshot (
    nid bigint PRIMARY KEY,
    room_nid bigint NOT NULL,
    parent_nid bigint,
    -- How many parents must be read to know it whole.
    depth integer NOT NULL,
    delta bytea NOT NULL
);

-- Which snapshot was the room's current state from `position` on. Pruned with the log (the last row of a room stays).
CREATE TABLE current_state (
    room_nid bigint NOT NULL,
    position bigint NOT NULL,
    snapshot_nid bigint NOT NULL,
    PRIMARY KEY (room_nid, position)
);

-- Each user's last membership event of each room, and for rooms that we are not in, what the inviting server told.
CREATE TABLE membership (
    user_nid bigint NOT NULL,
    room_nid bigint NOT NULL,
    -- 'join', 'invite', 'knock', 'leave', 'ban'
    membership text NOT NULL,
    event_nid bigint,
    sender_nid bigint NOT NULL,
    position bigint NOT NULL,
    -- Stripped state for invites and knocks: a JSON array.
    stripped text,
    forgotten boolean NOT NULL DEFAULT false,
    -- Lower-case name for the user directory and heroes; from the event.
    display_name text,
    avatar_url text,
    PRIMARY KEY (user_nid, room_nid)
);
CREATE INDEX membership_room ON membership (room_nid, membership);
CREATE INDEX membership_position ON membership (user_nid, position);

-- The event that a device's transaction made. Pruned by age: 7 days.
CREATE TABLE sent_event (
    user_nid bigint NOT NULL,
    device_id text NOT NULL,
    room_nid bigint NOT NULL,
    -- 'redact' or 'send/<type>'
    action text NOT NULL,
    txn_id text NOT NULL,
    event_nid bigint NOT NULL,
    created_ts bigint NOT NULL,
    PRIMARY KEY (user_nid, device_id, room_nid, action, txn_id)
);
CREATE INDEX sent_event_event ON sent_event (event_nid);
CREATE INDEX sent_event_created ON sent_event (created_ts);

-- m.relates_to of accepted events.
CREATE TABLE relation (
    room_nid bigint NOT NULL,
    parent_event_id text NOT NULL,
    rel_type text NOT NULL,
    event_nid bigint NOT NULL,
    stream_order bigint NOT NULL,
    PRIMARY KEY (room_nid, parent_event_id, stream_order)
);
CREATE INDEX relation_thread ON relation (room_nid, stream_order) WHERE rel_type = 'm.thread';

-- Redactions whose target has not come yet.
CREATE TABLE pending_redaction (
    target_event_id text NOT NULL,
    redaction_nid bigint NOT NULL,
    PRIMARY KEY (target_event_id, redaction_nid)
);

-- `kind`: 'm.read', 'm.read.private' or 'm.fully_read' is account data and not here. `thread`: '' (unthreaded),
-- 'main' or the root's event id. Journalled.
CREATE TABLE receipt (
    room_nid bigint NOT NULL,
    user_nid bigint NOT NULL,
    kind text NOT NULL,
    thread text NOT NULL,
    event_id text NOT NULL,
    -- The event's stream order, if it is known here.
    stream_order bigint,
    ts bigint NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (room_nid, user_nid, kind, thread)
);
CREATE INDEX receipt_position ON receipt (room_nid, position);

CREATE TABLE room_alias (
    alias text PRIMARY KEY,
    room_nid bigint NOT NULL,
    creator_nid bigint NOT NULL,
    created_ts bigint NOT NULL
);
CREATE INDEX room_alias_room ON room_alias (room_nid);
