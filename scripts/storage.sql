-- Rows of the usual length in the tables that the bench leaves empty, for scripts/storage.
\set rows 10000
CREATE FUNCTION pg_temp.hex(n bigint, length int) RETURNS text LANGUAGE sql AS
    $$ SELECT left(repeat(md5(n::text), 9), length) $$;

INSERT INTO receipt
    SELECT n % 100, n, 'm.read', '', '$' || pg_temp.hex(n, 43), 1000000 + n, 1790000000000 + n, n FROM generate_series(1, :rows) n;
INSERT INTO account_data
    SELECT n % 100, n, 'm.tag', '{"tags":{"m.favourite":{"order":0.5}}}', n FROM generate_series(1, :rows) n;
INSERT INTO to_device
    SELECT n % 100, 'ABCDEFGHIJ', n, '{"content":{"ciphertext":"' || pg_temp.hex(n, 280)
        || '"},"sender":"@alice:example.org","type":"m.room.encrypted"}' FROM generate_series(1, :rows) n;
INSERT INTO relation
    SELECT n % 100, '$' || pg_temp.hex(n / 5, 43), 'm.annotation', n, n FROM generate_series(1, :rows) n;
INSERT INTO pending_redaction SELECT '$' || pg_temp.hex(n, 43), n FROM generate_series(1, :rows) n;
INSERT INTO filter
    SELECT n % 1000, n / 1000, '{"room":{"state":{"lazy_load_members":true},"timeline":{"limit":20}}}' FROM generate_series(1, :rows) n;
INSERT INTO room_alias
    SELECT '#' || pg_temp.hex(n, 12) || ':example.org', n, n % 100, 1790000000000 + n FROM generate_series(1, :rows) n;
INSERT INTO device_transaction
    SELECT n % 100, 'ABCDEFGHIJ', 'sendToDevice/m.room.encrypted', 'm1790000000000.' || n, 1790000000000 + n
    FROM generate_series(1, :rows) n;
INSERT INTO report (reporter_nid, room_nid, event_id, reason, created_ts)
    SELECT n % 100, n % 100, '$' || pg_temp.hex(n, 43), pg_temp.hex(n, 60), 1790000000000 + n FROM generate_series(1, :rows) n;
INSERT INTO login_token SELECT decode(md5(n::text) || md5('b' || n), 'hex'), n % 100, 1790000000000 + n FROM generate_series(1, :rows) n;
INSERT INTO openid_token SELECT decode(md5(n::text) || md5('b' || n), 'hex'), n % 100, 1790000000000 + n FROM generate_series(1, :rows) n;
INSERT INTO refresh_token
    SELECT decode(md5(n::text) || md5('b' || n), 'hex'), n % 1000, 'ABCDEFGHIJ', decode(md5('c' || n) || md5('d' || n), 'hex')
    FROM generate_series(1, :rows) n;
INSERT INTO uia_session (session_id, action, user_nid, body, expires_ts)
    SELECT 'hru_' || pg_temp.hex(n, 43), 'POST /_matrix/client/v3/account/password', n % 100,
           '{"new_password":"$argon2id$v=19$m=19456,t=2,p=1$' || pg_temp.hex(n, 65) || '"}', 1790000000000 + n
    FROM generate_series(1, :rows) n;
INSERT INTO registration_token SELECT pg_temp.hex(n, 16), 10, 3 FROM generate_series(1, :rows) n;
INSERT INTO profile_update SELECT n, 1, 1790000000000 + n FROM generate_series(1, :rows) n;
INSERT INTO room (room_id, version, revision, snapshot_nid, extremities)
    SELECT '!' || pg_temp.hex(n, 43), '12', 20, n, ARRAY[n] FROM generate_series(1, :rows) n;
INSERT INTO missing_previous SELECT '$' || pg_temp.hex(n, 43), n, n % 100 FROM generate_series(1, :rows) n;
INSERT INTO server_notice_room SELECT n, n FROM generate_series(1, :rows) n;
-- A pusher belongs to a device; the devices of the bench have other ids.
INSERT INTO device (user_nid, device_id, created_ts) SELECT n, 'HGFEDCBA00', 1790000000000 FROM generate_series(1, :rows) n;
INSERT INTO pusher
    (user_nid, device_id, app_id, pushkey, kind, app_display_name, device_display_name, lang, data, set_ts)
    SELECT n, 'HGFEDCBA00', 'im.vector.app.android', pg_temp.hex(n, 163), 'http', 'Element', 'Phone of ' || n, 'en',
           '{"format":"event_id_only","url":"https://push.example.org/_matrix/push/v1/notify"}', 1790000000000 + n
    FROM generate_series(1, :rows) n;
INSERT INTO push_queue (pusher_nid, events, queued)
    SELECT nid, ARRAY[nid, nid + 1], ARRAY[1790000000000, 1790000000001] FROM pusher;
