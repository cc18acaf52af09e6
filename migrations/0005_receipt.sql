-- Previous events that have no place in the DAG here: where a room's history has gaps.
-- At most twenty rows an event, and only for events on the edge of what is known; a row goes when the previous event gets
-- its place.
CREATE TABLE missing_previous (
    event_id text NOT NULL,
    -- The event that comes after it.
    child_nid bigint NOT NULL,
    room_nid bigint NOT NULL,
    PRIMARY KEY (event_id, child_nid)
);
CREATE INDEX missing_previous_room ON missing_previous (room_nid);
