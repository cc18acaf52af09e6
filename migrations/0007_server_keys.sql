-- Keys that other servers sign with. A signature by a key counts up to `valid_until_ts`: for a key in use until the
-- answer that named it is stale (7 days after it was fetched at the latest), for an old key until it expired.
-- A row for each key that a server ever named to us; an answer names a bounded number. Pruned a year
-- after the server answered last.
CREATE TABLE server_key (
    server_name text NOT NULL,
    key_id text NOT NULL,
    key bytea NOT NULL,
    -- No new signatures are made with it.
    is_old boolean NOT NULL,
    valid_until_ts bigint NOT NULL,
    fetched_ts bigint NOT NULL,
    PRIMARY KEY (server_name, key_id)
);
CREATE INDEX server_key_fetched ON server_key (fetched_ts);

-- The last answer of each server about its keys, for those who ask us as a notary. Pruned after
-- 90 days.
CREATE TABLE server_key_answer (
    server_name text PRIMARY KEY,
    answer text NOT NULL,
    valid_until_ts bigint NOT NULL,
    fetched_ts bigint NOT NULL
);
CREATE INDEX server_key_answer_fetched ON server_key_answer (fetched_ts);
