-- Guests are few among many: their rooms are looked at at every start.
CREATE INDEX account_guest ON account (user_nid) WHERE guest;
