-- The words by which the user directory finds users (core/src/words.rs): of our users those of the id and the name in the
-- profile, with which they are replaced; of others those of their ids and of all names that they had in rooms, at most
-- 64 a user. That one of a user's words matches is not enough to show him: what the searcher sees of him has to match.
CREATE TABLE user_word (
    user_nid bigint NOT NULL,
    word text COLLATE "C" NOT NULL,
    PRIMARY KEY (user_nid, word)
);
CREATE INDEX user_word_word ON user_word (word, user_nid);

-- Users who are there already. This database may know the lower case of ASCII letters only.
WITH named AS (
    SELECT u.nid, u.user_id,
           CASE WHEN position('\u0000' IN n.value) = 0 THEN n.value::json #>> '{}' END AS name
    FROM account a
    JOIN user_id u ON u.nid = a.user_nid
    LEFT JOIN profile n ON n.user_nid = a.user_nid AND n.key = 'displayname'
    WHERE NOT a.deactivated
    UNION
    SELECT u.nid, u.user_id, m.display_name
    FROM membership m
    JOIN user_id u ON u.nid = m.user_nid
    WHERE m.membership = 'join' AND NOT EXISTS (SELECT FROM account a WHERE a.user_nid = m.user_nid)
), words AS (
    SELECT nid, lower(user_id) AS word FROM named
    UNION
    SELECT nid, left(word, 64)
    FROM named, regexp_split_to_table(
        lower(split_part(substr(user_id, 2), ':', 1) || ' ' || COALESCE(name, '')), '[[:space:][:punct:][:cntrl:]]+') AS word
    WHERE word <> ''
)
INSERT INTO user_word (user_nid, word)
SELECT nid, word FROM (SELECT nid, word, row_number() OVER (PARTITION BY nid ORDER BY word) AS place FROM words) AS w
WHERE place <= 64;
