-- Changes of exchanges, in the order in which they became durable. Ids and states, no content.
CREATE TABLE exchange_events (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    exchange_id BLOB NOT NULL,
    sender      TEXT NOT NULL,
    recipient   TEXT NOT NULL,
    change      TEXT NOT NULL,
    state       TEXT NOT NULL,
    message     INTEGER NOT NULL,
    changed_us  INTEGER NOT NULL
) STRICT;
CREATE INDEX exchange_events_by_sender ON exchange_events (sender, seq);
CREATE INDEX exchange_events_by_recipient ON exchange_events (recipient, seq);
