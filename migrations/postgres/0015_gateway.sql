-- What the SQLite migrations up to 0015 make, for PostgreSQL 15 and newer. Times are microseconds, ids and sealed bodies bytes.
-- Words are compared byte by byte, as SQLite compares them: the collation of the server does not matter.

-- The audit log. Entries are the exact bytes that were hashed; the salt opens their commitments and can be erased.
-- Tables that grow for ever are partitioned by their place in the log; the gateway makes partitions ahead (see store/postgres).
CREATE TABLE audit_entries (
    idx   BIGINT NOT NULL PRIMARY KEY,
    entry BYTEA NOT NULL,
    salt  BYTEA
) PARTITION BY RANGE (idx);

-- C2SP tlog-tiles layout, height 8: up to 256 hashes of 32 bytes. Level 0 holds the leaf hashes. They are never removed.
CREATE TABLE audit_tiles (
    level  BIGINT NOT NULL,
    idx    BIGINT NOT NULL,
    hashes BYTEA NOT NULL,
    PRIMARY KEY (level, idx)
) WITH (fillfactor = 50);
ALTER TABLE audit_tiles ALTER COLUMN hashes SET STORAGE EXTERNAL;

-- recorded_us: when the newest entry was recorded; no entry after it is recorded earlier.
CREATE TABLE audit_head (
    id          BIGINT PRIMARY KEY CHECK (id = 1),
    size        BIGINT NOT NULL,
    root        BYTEA NOT NULL,
    checkpoint  TEXT NOT NULL,
    recorded_us BIGINT NOT NULL
) WITH (fillfactor = 10);

-- The gateways that write the log. No REQUEST of a node outside open_from..written_to waits for its end. The epoch rises
-- whenever somebody takes the node's place: whoever held it before commits nothing any more.
CREATE TABLE audit_nodes (
    node       TEXT COLLATE "C" PRIMARY KEY,
    epoch      BIGINT NOT NULL,
    open_from  BIGINT NOT NULL,
    written_to BIGINT NOT NULL
) WITH (fillfactor = 10);

-- Who asked what under which request id; the digest is keyed.
CREATE TABLE claims (
    caller        TEXT COLLATE "C" NOT NULL,
    request_id    BYTEA NOT NULL,
    digest        BYTEA NOT NULL,
    request_index BIGINT NOT NULL,
    PRIMARY KEY (caller, request_id)
);

CREATE TABLE outcomes (
    request_index  BIGINT NOT NULL PRIMARY KEY,
    response_index BIGINT NOT NULL,
    caller         TEXT COLLATE "C" NOT NULL,
    request_id     BYTEA NOT NULL,
    response       BYTEA NOT NULL,
    created_us     BIGINT NOT NULL
) PARTITION BY RANGE (request_index);

CREATE TABLE exchanges (
    exchange_id BYTEA PRIMARY KEY,
    kind        TEXT COLLATE "C" NOT NULL,
    state       TEXT COLLATE "C" NOT NULL,
    sender      TEXT COLLATE "C" NOT NULL,
    recipient   TEXT COLLATE "C" NOT NULL,
    matter_id   TEXT COLLATE "C" NOT NULL,
    region      TEXT COLLATE "C" NOT NULL,
    messages    BIGINT NOT NULL,
    created_us  BIGINT NOT NULL,
    updated_us  BIGINT NOT NULL,
    -- Which course within its kind it takes; some clocks run on one only.
    track       TEXT COLLATE "C",
    -- An exchange whose messages were erased stays as a row, and says so.
    erased_us   BIGINT,
    erased_by   TEXT COLLATE "C"
);
CREATE INDEX exchanges_by_sender ON exchanges (sender, exchange_id);
CREATE INDEX exchanges_by_recipient ON exchanges (recipient, exchange_id);

-- Bodies are sealed (AES-256-GCM). Nothing that could confirm a guess at a body stands beside it.
CREATE TABLE messages (
    exchange_id BYTEA NOT NULL,
    sequence    BIGINT NOT NULL,
    message     BYTEA NOT NULL,
    PRIMARY KEY (exchange_id, sequence)
);
-- Sealed bytes do not become smaller.
ALTER TABLE messages ALTER COLUMN message SET STORAGE EXTERNAL;

-- The outbox: one row for each message and its recipient.
CREATE TABLE deliveries (
    delivery_id     BYTEA PRIMARY KEY,
    exchange_id     BYTEA NOT NULL,
    sequence        BIGINT NOT NULL,
    recipient       TEXT COLLATE "C" NOT NULL,
    state           TEXT COLLATE "C" NOT NULL,
    attempts        BIGINT NOT NULL,
    due_us          BIGINT NOT NULL,
    lease           BYTEA,
    -- Which gateway is delivering; NULL for what an agency pulled.
    lease_node      TEXT COLLATE "C",
    created_us      BIGINT NOT NULL,
    settled_us      BIGINT,
    reason          TEXT COLLATE "C",
    redelivered_us  BIGINT,
    attempts_before BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX deliveries_open ON deliveries (recipient, due_us) WHERE state IN ('PENDING', 'LEASED');
CREATE INDEX deliveries_by_exchange ON deliveries (exchange_id, sequence);
CREATE INDEX deliveries_dead ON deliveries (created_us) WHERE state = 'DEAD';
CREATE INDEX deliveries_leased ON deliveries (due_us) WHERE state = 'LEASED';
CREATE INDEX deliveries_oldest ON deliveries (created_us) WHERE state IN ('PENDING', 'LEASED');

-- The clocks of the law that run, or ran, in an exchange. What a rule said is kept beside it: rules change, and what ran under
-- the old one ends under it. overdue_us is set by the gateway's timer, with an audit entry of its own.
CREATE TABLE running_clocks (
    exchange_id BYTEA NOT NULL,
    clock       TEXT COLLATE "C" NOT NULL,
    round       BIGINT NOT NULL,
    articles    TEXT COLLATE "C" NOT NULL,
    source      TEXT COLLATE "C" NOT NULL,
    started_us  BIGINT NOT NULL,
    due_us      BIGINT NOT NULL,
    due_on      TEXT COLLATE "C",
    estimate    BIGINT NOT NULL CHECK (estimate IN (0, 1)),
    stopped_us  BIGINT,
    overdue_us  BIGINT,
    PRIMARY KEY (exchange_id, clock, round)
);
CREATE INDEX running_clocks_due ON running_clocks (due_us) WHERE stopped_us IS NULL AND overdue_us IS NULL;
CREATE INDEX running_clocks_overdue ON running_clocks (exchange_id, clock)
    WHERE stopped_us IS NULL AND overdue_us IS NOT NULL;

-- Questions that a register could not answer and that the gateway asks again. The question is sealed and removed once there
-- is an answer; the answer is a message in the outbox, under the verification's id.
CREATE TABLE verifications (
    verification_id BYTEA PRIMARY KEY,
    kind            TEXT COLLATE "C" NOT NULL,
    state           TEXT COLLATE "C" NOT NULL,
    caller          TEXT COLLATE "C" NOT NULL,
    registry        TEXT COLLATE "C" NOT NULL,
    matter_id       TEXT COLLATE "C" NOT NULL,
    attempts        BIGINT NOT NULL,
    due_us          BIGINT NOT NULL,
    created_us      BIGINT NOT NULL,
    updated_us      BIGINT NOT NULL,
    question        BYTEA
);
CREATE INDEX verifications_open ON verifications (due_us) WHERE state = 'PENDING';

-- Attachments. The digest is keyed, name and media type are sealed: nothing that could confirm a guess at a paper stands
-- beside it. Chunks are sealed, 64 KiB of clear bytes each but the last.
CREATE TABLE attachments (
    attachment_id BYTEA PRIMARY KEY,
    owner         TEXT COLLATE "C" NOT NULL,
    digest        BYTEA NOT NULL,
    size          BIGINT NOT NULL,
    details       BYTEA NOT NULL,
    received      BIGINT NOT NULL,
    touched_us    BIGINT NOT NULL,
    completed_us  BIGINT,
    UNIQUE (owner, digest)
);
CREATE INDEX attachments_by_digest ON attachments (digest);
CREATE INDEX attachments_unfinished ON attachments (touched_us) WHERE completed_us IS NULL;

CREATE TABLE attachment_chunks (
    attachment_id BYTEA NOT NULL,
    idx           BIGINT NOT NULL,
    chunk         BYTEA NOT NULL,
    PRIMARY KEY (attachment_id, idx)
);
ALTER TABLE attachment_chunks ALTER COLUMN chunk SET STORAGE EXTERNAL;

-- Which messages name which digest, and whose messages they are: only the uploader's own message shares an attachment.
CREATE TABLE exchange_attachments (
    exchange_id BYTEA NOT NULL,
    named_by    TEXT COLLATE "C" NOT NULL,
    digest      BYTEA NOT NULL,
    PRIMARY KEY (exchange_id, named_by, digest)
);
CREATE INDEX exchange_attachments_by_digest ON exchange_attachments (digest);

-- Changes of exchanges, in the order in which they became durable: numbers are drawn only by who holds the log's turn.
CREATE SEQUENCE exchange_events_seq;
CREATE TABLE exchange_events (
    seq         BIGINT NOT NULL PRIMARY KEY DEFAULT nextval('exchange_events_seq'),
    exchange_id BYTEA NOT NULL,
    sender      TEXT COLLATE "C" NOT NULL,
    recipient   TEXT COLLATE "C" NOT NULL,
    change      TEXT COLLATE "C" NOT NULL,
    state       TEXT COLLATE "C" NOT NULL,
    message     BIGINT NOT NULL,
    changed_us  BIGINT NOT NULL
) PARTITION BY RANGE (seq);
CREATE INDEX exchange_events_by_sender ON exchange_events (sender, seq);
CREATE INDEX exchange_events_by_recipient ON exchange_events (recipient, seq);

-- What witnesses have signed of the audit log: the newest of each, and all of the newest checkpoint that has a quorum.
CREATE TABLE audit_cosignatures (
    size        BIGINT NOT NULL,
    witness     TEXT COLLATE "C" NOT NULL,
    checkpoint  TEXT NOT NULL,
    line        TEXT NOT NULL,
    PRIMARY KEY (size, witness)
);

-- Removals: erasures and prunings. `event` is the entry that the entry of each step is made after.
CREATE TABLE removals (
    removal_id     BYTEA PRIMARY KEY,
    caller         TEXT COLLATE "C" NOT NULL,
    kind           TEXT COLLATE "C" NOT NULL,
    state          TEXT COLLATE "C" NOT NULL,
    dry_run        BIGINT NOT NULL CHECK (dry_run IN (0, 1)),
    before_us      BIGINT,
    pseudonyms     TEXT NOT NULL,
    event          BYTEA NOT NULL,
    looked_through BIGINT NOT NULL,
    entries        BIGINT NOT NULL,
    exchanges      BIGINT NOT NULL,
    obstacles      TEXT NOT NULL,
    created_us     BIGINT NOT NULL,
    updated_us     BIGINT NOT NULL
);
CREATE INDEX removals_open ON removals (created_us) WHERE state IN ('COUNTING', 'REMOVING');

-- Which keys made pseudonyms, by fingerprint; the newest is the current one.
CREATE TABLE pseudonym_keys (
    fingerprint TEXT COLLATE "C" PRIMARY KEY,
    adopted_us  BIGINT NOT NULL
);

-- Which entries lost their salts or bytes, when and by whom: what the log's own entries say, at hand for who asks.
CREATE TABLE removed_entries (
    first_idx  BIGINT NOT NULL,
    last_idx   BIGINT NOT NULL,
    removed_us BIGINT NOT NULL,
    kind       TEXT COLLATE "C" NOT NULL,
    removed_by TEXT COLLATE "C" NOT NULL,
    -- Index of the entry that tells of the removal: what the row says is not signed, and only helps to find what is.
    told_idx   BIGINT,
    PRIMARY KEY (first_idx, last_idx, removed_us)
);

-- What auditors made of findings. Marks are kept for ever beside each other; the newest holds. The comment is sealed.
CREATE TABLE finding_marks (
    request_index BIGINT PRIMARY KEY,
    finding_id    BYTEA NOT NULL,
    mark          TEXT COLLATE "C" NOT NULL,
    comment       BYTEA NOT NULL,
    marked_by     TEXT COLLATE "C" NOT NULL,
    unit          TEXT COLLATE "C" NOT NULL,
    operator      TEXT COLLATE "C" NOT NULL,
    marked_us     BIGINT NOT NULL
);
CREATE INDEX finding_marks_by_finding ON finding_marks (finding_id, request_index);
