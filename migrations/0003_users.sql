-- Times are milliseconds since the Unix epoch, as on the wire. Tokens are stored as SHA-256.
CREATE TABLE account (
    user_nid bigint PRIMARY KEY,
    localpart text NOT NULL UNIQUE,
    -- Argon2id, PHC string; NULL: no password (deactivated, single sign-on, application service).
    password_hash text,
    admin boolean NOT NULL DEFAULT false,
    guest boolean NOT NULL DEFAULT false,
    deactivated boolean NOT NULL DEFAULT false,
    erased boolean NOT NULL DEFAULT false,
    locked boolean NOT NULL DEFAULT false,
    suspended boolean NOT NULL DEFAULT false,
    -- The account was closed and the user is still in rooms.
    leaving boolean NOT NULL DEFAULT false,
    appservice_id text,
    created_ts bigint NOT NULL
);
CREATE INDEX account_leaving ON account (user_nid) WHERE leaving;

CREATE TABLE device (
    user_nid bigint NOT NULL,
    device_id text NOT NULL,
    display_name text,
    created_ts bigint NOT NULL,
    last_seen_ts bigint,
    last_seen_ip text,
    last_seen_user_agent text,
    PRIMARY KEY (user_nid, device_id)
);

CREATE TABLE access_token (
    hash bytea PRIMARY KEY,
    user_nid bigint NOT NULL,
    -- NULL: a token without a device (made by an administrator).
    device_id text,
    created_ts bigint NOT NULL,
    expires_ts bigint
);
CREATE INDEX access_token_device ON access_token (user_nid, device_id);

CREATE TABLE refresh_token (
    hash bytea PRIMARY KEY,
    user_nid bigint NOT NULL,
    device_id text NOT NULL,
    -- The access token that was issued with it; once that or the next refresh token is used, this one is dead.
    access_hash bytea NOT NULL,
    -- The token that replaced this one; it stays usable until its successor is used, so that a lost answer can be repeated.
    next_hash bytea,
    expires_ts bigint
);
CREATE INDEX refresh_token_device ON refresh_token (user_nid, device_id);

-- Tokens that work once and soon expire: m.login.token.
CREATE TABLE login_token (
    hash bytea PRIMARY KEY,
    user_nid bigint NOT NULL,
    expires_ts bigint NOT NULL
);
-- Each insert into this table and the next two takes some expired rows out.
CREATE INDEX login_token_expires ON login_token (expires_ts);

CREATE TABLE openid_token (
    hash bytea PRIMARY KEY,
    user_nid bigint NOT NULL,
    expires_ts bigint NOT NULL
);
CREATE INDEX openid_token_expires ON openid_token (expires_ts);

-- A user-interactive authentication under way; pruned after it expires.
CREATE TABLE uia_session (
    session_id text PRIMARY KEY,
    -- What is being done (method and path) and by whom; a session serves nothing else.
    action text NOT NULL,
    user_nid bigint,
    completed text[] NOT NULL DEFAULT '{}',
    -- The first request's body without `auth`, so that later stages need not repeat it. Passwords are hashed.
    body text NOT NULL,
    registration_token text,
    expires_ts bigint NOT NULL
);
CREATE INDEX uia_session_expires ON uia_session (expires_ts);
CREATE INDEX uia_session_token ON uia_session (registration_token) WHERE registration_token IS NOT NULL;

-- Pending uses are the sessions that name the token.
CREATE TABLE registration_token (
    token text PRIMARY KEY,
    uses_allowed integer,
    completed integer NOT NULL DEFAULT 0,
    expires_ts bigint
);

-- `key` is `displayname`, `avatar_url` or an extended field; `value` is JSON.
CREATE TABLE profile (
    user_nid bigint NOT NULL,
    key text NOT NULL,
    value text NOT NULL,
    PRIMARY KEY (user_nid, key)
);

-- Users whose member events do not all show their profile yet; a row goes when its work is done.
CREATE TABLE profile_update (
    user_nid bigint PRIMARY KEY,
    -- Grows with each change of the profile.
    revision bigint NOT NULL,
    -- Until then somebody is at it.
    due_ts bigint NOT NULL
);
CREATE INDEX profile_update_due ON profile_update (due_ts);

CREATE TABLE filter (
    user_nid bigint NOT NULL,
    filter_id bigint NOT NULL,
    body text NOT NULL,
    PRIMARY KEY (user_nid, filter_id)
);

-- `room_nid` 0: the user's own. An empty object is a deletion that others still have to hear of. Journalled.
CREATE TABLE account_data (
    user_nid bigint NOT NULL,
    room_nid bigint NOT NULL DEFAULT 0,
    type text NOT NULL,
    content text NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (user_nid, room_nid, type)
);
CREATE INDEX account_data_position ON account_data (user_nid, position);

-- Deleted by the sync that carried it. Journalled.
CREATE TABLE to_device (
    user_nid bigint NOT NULL,
    device_id text NOT NULL,
    position bigint NOT NULL,
    message text NOT NULL,
    PRIMARY KEY (user_nid, device_id, position)
);

-- A device's transactions that are not events (to-device). Pruned by age.
CREATE TABLE device_transaction (
    user_nid bigint NOT NULL,
    device_id text NOT NULL,
    action text NOT NULL,
    txn_id text NOT NULL,
    created_ts bigint NOT NULL,
    PRIMARY KEY (user_nid, device_id, action, txn_id)
);
CREATE INDEX device_transaction_created ON device_transaction (created_ts);

-- Whose devices changed. Journalled; pruned with the log.
CREATE TABLE device_list_change (
    position bigint PRIMARY KEY,
    user_nid bigint NOT NULL
);
CREATE INDEX device_list_change_user ON device_list_change (user_nid, position);

-- Each report takes some out that are older than a year.
CREATE TABLE report (
    nid bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    reporter_nid bigint NOT NULL,
    room_nid bigint,
    event_id text,
    user_nid bigint,
    reason text NOT NULL,
    created_ts bigint NOT NULL
);
