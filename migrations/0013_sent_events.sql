-- Clients' transactions are forgotten seven days after their events, which the log tells (journal/src/prune.rs): that needs
-- neither a time of their own nor an index by it.
ALTER TABLE sent_event DROP COLUMN created_ts;

-- Up to where the log's transactions are forgotten.
ALTER TABLE log_tail ADD COLUMN sent bigint NOT NULL DEFAULT 0;
