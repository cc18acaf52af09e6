-- Whose database this is, and which binaries may use it.
CREATE TABLE hearth (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    server_name text NOT NULL,
    -- The oldest schema number a binary must know to run on this database.
    minimum_compatible integer NOT NULL DEFAULT 1
);

-- The head of the log. The lock of its row is the log's lock: positions are given in the order of commits.
CREATE TABLE log_head (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    -- Grows when positions may have been handed out twice (fail-over, restore); then the position jumps ahead.
    epoch bigint NOT NULL,
    position bigint NOT NULL,
    -- The PostgreSQL that the epoch belongs to.
    system_identifier text NOT NULL,
    timeline integer NOT NULL
);

-- One row for everything durable that a client or a peer may wait for, in commit order.
-- Pruned from the tail (tokens older than it get a full resync): kept are 7 days, and at least 1,000,000 positions.
CREATE TABLE log (
    position bigint PRIMARY KEY,
    kind smallint NOT NULL,
    room_nid bigint,
    user_nid bigint,
    -- The event, for entries that are one.
    event_nid bigint
);

-- Where the log begins. A process takes a round of pruning every ten minutes (journal/src/prune.rs).
CREATE TABLE log_tail (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    -- Tokens before it get a full resync. It moves first; what lies before it is deleted in the next round, when every
    -- process knows of it.
    position bigint NOT NULL DEFAULT 0,
    -- Up to where rows are gone: from `log`, `current_state` and `device_list_change`.
    pruned bigint NOT NULL DEFAULT 0,
    -- When the last round began.
    round_ts bigint NOT NULL DEFAULT 0
);
INSERT INTO log_tail DEFAULT VALUES;

-- Where the head was when: tells how old positions are. One row a round, kept as long as positions are.
CREATE TABLE log_mark (
    created_ts bigint PRIMARY KEY,
    position bigint NOT NULL
);
