-- When a snapshot was first found to be used by nothing; NULL: it is used, or was not looked at.
-- Snapshots that nothing uses for an hour are deleted (journal/src/prune/snapshots.rs).
ALTER TABLE snapshot ADD COLUMN unused_since bigint;
CREATE INDEX snapshot_unused ON snapshot (unused_since) WHERE unused_since IS NOT NULL;

-- What uses a snapshot is looked up before it is deleted.
CREATE INDEX snapshot_parent ON snapshot (parent_nid) WHERE parent_nid IS NOT NULL;
CREATE INDEX event_snapshot ON event (snapshot_nid) WHERE snapshot_nid IS NOT NULL;
CREATE INDEX current_state_snapshot ON current_state (snapshot_nid);

-- The last snapshot that was looked at. One row.
CREATE TABLE snapshot_sweep (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    looked_nid bigint NOT NULL DEFAULT 0
);
INSERT INTO snapshot_sweep DEFAULT VALUES;

-- What expires in login_token, openid_token, uia_session, device_transaction and report goes with the rounds of pruning
-- (journal/src/prune/expired.rs), no longer with each insert. Overtaken receipts of threads, and messages to devices
-- that are gone or were not seen for 180 days, go when the log that tells of them does (journal/src/prune.rs).
