-- The audit log. Entries are the exact bytes that were hashed; the salt opens their commitments and can be erased.
CREATE TABLE audit_entries (
    idx   INTEGER PRIMARY KEY,
    entry BLOB NOT NULL,
    salt  BLOB
) STRICT;

-- C2SP tlog-tiles layout, height 8: up to 256 hashes of 32 bytes. Level 0 holds the leaf hashes.
CREATE TABLE audit_tiles (
    level  INTEGER NOT NULL,
    idx    INTEGER NOT NULL,
    hashes BLOB NOT NULL,
    PRIMARY KEY (level, idx)
) STRICT, WITHOUT ROWID;

CREATE TABLE audit_head (
    id         INTEGER PRIMARY KEY CHECK (id = 1),
    size       INTEGER NOT NULL,
    root       BLOB NOT NULL,
    open_from  INTEGER NOT NULL,
    checkpoint TEXT NOT NULL
) STRICT;

-- Who asked what under which request id; the digest is keyed. The outcome stands apart, in log order, so that its bytes do not
-- spread over a table with random keys.
CREATE TABLE claims (
    caller        TEXT NOT NULL,
    request_id    BLOB NOT NULL,
    digest        BLOB NOT NULL,
    request_index INTEGER NOT NULL,
    PRIMARY KEY (caller, request_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE outcomes (
    request_index  INTEGER PRIMARY KEY,
    response_index INTEGER NOT NULL,
    caller         TEXT NOT NULL,
    request_id     BLOB NOT NULL,
    response       BLOB NOT NULL,
    created_us     INTEGER NOT NULL
) STRICT;

CREATE TABLE exchanges (
    exchange_id BLOB PRIMARY KEY,
    kind        TEXT NOT NULL,
    state       TEXT NOT NULL,
    sender      TEXT NOT NULL,
    recipient   TEXT NOT NULL,
    matter_id   TEXT NOT NULL,
    region      TEXT NOT NULL,
    messages    INTEGER NOT NULL,
    created_us  INTEGER NOT NULL,
    updated_us  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX exchanges_by_sender ON exchanges (sender, exchange_id);
CREATE INDEX exchanges_by_recipient ON exchanges (recipient, exchange_id);

-- Bodies are sealed (AES-256-GCM). Nothing that could confirm a guess at a body stands beside it.
CREATE TABLE messages (
    exchange_id BLOB NOT NULL,
    sequence    INTEGER NOT NULL,
    message     BLOB NOT NULL,
    PRIMARY KEY (exchange_id, sequence)
) STRICT;

-- The outbox: one row for each message and its recipient.
CREATE TABLE deliveries (
    delivery_id BLOB PRIMARY KEY,
    exchange_id BLOB NOT NULL,
    sequence    INTEGER NOT NULL,
    recipient   TEXT NOT NULL,
    state       TEXT NOT NULL,
    attempts    INTEGER NOT NULL,
    due_us      INTEGER NOT NULL,
    lease       BLOB,
    created_us  INTEGER NOT NULL,
    settled_us  INTEGER,
    reason      TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX deliveries_open ON deliveries (recipient, due_us) WHERE state IN ('PENDING', 'LEASED');
CREATE INDEX deliveries_by_exchange ON deliveries (exchange_id, sequence);
