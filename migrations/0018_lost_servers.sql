-- Since when a server fails, so that it is known when it is gone for good. Milliseconds since the Unix epoch; 0: it does not
-- fail, or an older binary noted that it does.
ALTER TABLE destination ADD COLUMN failing_since_ts bigint NOT NULL DEFAULT 0;
CREATE INDEX destination_failing_since ON destination (failing_since_ts) WHERE failing_since_ts > 0;

-- Rows of outbox_room are bounded further: what waits for a server that has failed for 30 days is pruned, and nothing is
-- noted down for it but once a day, when it is tried again.
