-- Tells whether events are missing right before one that is read: a client must not take its predecessor for the event before.
CREATE INDEX missing_previous_child ON missing_previous (child_nid);
