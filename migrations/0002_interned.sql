-- Strings that are used again and again get a number once. Never deleted.
CREATE TABLE user_id (
    nid bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id text NOT NULL UNIQUE
);

CREATE TABLE state_key (
    nid bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    type text NOT NULL,
    key text NOT NULL,
    UNIQUE (type, key)
);
