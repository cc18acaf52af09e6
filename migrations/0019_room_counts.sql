-- How many users are joined to a room, and how many of them have accounts here. Always what counting would say: whatever
-- statement changes memberships changes them too. A write that makes somebody join or leave holds the lock of the room's
-- row, so these updates wait for nobody.
ALTER TABLE room
    ADD COLUMN joined bigint NOT NULL DEFAULT 0,
    ADD COLUMN joined_local bigint NOT NULL DEFAULT 0;

CREATE FUNCTION count_members() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        UPDATE room SET joined = joined + d.members, joined_local = joined_local + d.locals
        FROM (SELECT n.room_nid, count(*) AS members, count(a.user_nid) AS locals
              FROM new_rows n LEFT JOIN account a ON a.user_nid = n.user_nid
              WHERE n.membership = 'join' GROUP BY n.room_nid) AS d
        WHERE room.nid = d.room_nid;
    ELSIF TG_OP = 'DELETE' THEN
        UPDATE room SET joined = joined - d.members, joined_local = joined_local - d.locals
        FROM (SELECT o.room_nid, count(*) AS members, count(a.user_nid) AS locals
              FROM old_rows o LEFT JOIN account a ON a.user_nid = o.user_nid
              WHERE o.membership = 'join' GROUP BY o.room_nid) AS d
        WHERE room.nid = d.room_nid;
    ELSE
        UPDATE room SET joined = joined + d.members, joined_local = joined_local + d.locals
        FROM (SELECT w.room_nid, sum(w.way) AS members,
                     COALESCE(sum(w.way) FILTER (WHERE a.user_nid IS NOT NULL), 0) AS locals
              FROM (SELECT room_nid, user_nid, 1 AS way FROM new_rows WHERE membership = 'join'
                    UNION ALL SELECT room_nid, user_nid, -1 FROM old_rows WHERE membership = 'join') AS w
              LEFT JOIN account a ON a.user_nid = w.user_nid
              GROUP BY w.room_nid) AS d
        WHERE room.nid = d.room_nid AND (d.members <> 0 OR d.locals <> 0);
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER membership_inserted AFTER INSERT ON membership
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION count_members();
CREATE TRIGGER membership_updated AFTER UPDATE ON membership
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION count_members();
CREATE TRIGGER membership_deleted AFTER DELETE ON membership
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION count_members();

-- A user who registers after others have put him into a room of theirs (a server that lost its database).
CREATE FUNCTION count_accounts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE room SET joined_local = joined_local + d.locals
    FROM (SELECT m.room_nid, count(*) AS locals
          FROM new_rows n JOIN membership m ON m.user_nid = n.user_nid
          WHERE m.membership = 'join' GROUP BY m.room_nid) AS d
    WHERE room.nid = d.room_nid;
    RETURN NULL;
END $$;

CREATE TRIGGER account_inserted AFTER INSERT ON account
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION count_accounts();

-- The triggers are there first: from now on nobody changes a membership until this is committed.
UPDATE room SET joined = d.members, joined_local = d.locals
FROM (SELECT m.room_nid, count(*) AS members, count(a.user_nid) AS locals
      FROM membership m LEFT JOIN account a ON a.user_nid = m.user_nid
      WHERE m.membership = 'join' GROUP BY m.room_nid) AS d
WHERE room.nid = d.room_nid;

-- The order of the directory: large rooms first, then the older ones.
CREATE INDEX room_directory ON room (joined, (-nid)) WHERE published AND joined_local > 0;
