-- Removals: erasures and prunings. `event` is the entry that the entry of each step is made after.
CREATE TABLE removals (
    removal_id     BLOB PRIMARY KEY,
    caller         TEXT NOT NULL,
    kind           TEXT NOT NULL,
    state          TEXT NOT NULL,
    dry_run        INTEGER NOT NULL CHECK (dry_run IN (0, 1)),
    before_us      INTEGER,
    pseudonyms     TEXT NOT NULL,
    event          BLOB NOT NULL,
    looked_through INTEGER NOT NULL,
    entries        INTEGER NOT NULL,
    exchanges      INTEGER NOT NULL,
    obstacles      TEXT NOT NULL,
    created_us     INTEGER NOT NULL,
    updated_us     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX removals_open ON removals (created_us) WHERE state IN ('COUNTING', 'REMOVING');

-- An exchange whose messages were erased stays as a row, and says so.
ALTER TABLE exchanges ADD COLUMN erased_us INTEGER;
ALTER TABLE exchanges ADD COLUMN erased_by TEXT;

-- Which keys made pseudonyms, by fingerprint; the newest is the current one.
CREATE TABLE pseudonym_keys (
    fingerprint TEXT PRIMARY KEY,
    adopted_us  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Which entries lost their salts or bytes, when and by whom: what the log's own entries say, at hand for who asks.
CREATE TABLE removed_entries (
    first_idx  INTEGER NOT NULL,
    last_idx   INTEGER NOT NULL,
    removed_us INTEGER NOT NULL,
    kind       TEXT NOT NULL,
    removed_by TEXT NOT NULL,
    PRIMARY KEY (first_idx, last_idx, removed_us)
) STRICT, WITHOUT ROWID;
