-- Agreements, each version of each. terms is canonical JSON (RFC 8785), and digest its SHA-256, which the audit log names.
-- Of one agreement at most one version is in effect; what ended, or gave way to a later version, stays as a row.
CREATE TABLE agreements (
    agreement_id TEXT NOT NULL,
    version      INTEGER NOT NULL,
    state        TEXT NOT NULL,
    terms        TEXT NOT NULL,
    digest       BLOB NOT NULL,
    PRIMARY KEY (agreement_id, version)
) STRICT;
CREATE UNIQUE INDEX agreements_effective ON agreements (agreement_id) WHERE state = 'EFFECTIVE';
CREATE UNIQUE INDEX agreements_pending ON agreements (agreement_id) WHERE state = 'PENDING';

-- Who put, approved and ended a version, and which entry of the log says so. Without unit and operator it was the gateway, from
-- its directory file.
CREATE TABLE agreement_acts (
    agreement_id TEXT NOT NULL,
    version      INTEGER NOT NULL,
    act          TEXT NOT NULL,
    agency       TEXT NOT NULL,
    unit         TEXT,
    operator     TEXT,
    entry_idx    INTEGER NOT NULL,
    acted_us     INTEGER NOT NULL,
    PRIMARY KEY (agreement_id, version, act)
) STRICT;

-- Grows with every change of the agreements: by it each gateway sees that it must read them again.
CREATE TABLE agreement_changes (
    id      INTEGER PRIMARY KEY CHECK (id = 1),
    changes INTEGER NOT NULL
) STRICT;
INSERT INTO agreement_changes (id, changes) VALUES (1, 0);

-- Calls counted under an agreement's quota. operator is empty for the agency as a whole, else unit and staff number with a slash
-- between them. Rows whose time is past are forgotten.
CREATE TABLE quota_use (
    agreement_id TEXT NOT NULL,
    caller       TEXT NOT NULL,
    operator     TEXT NOT NULL,
    period       TEXT NOT NULL,
    begins_us    INTEGER NOT NULL,
    used         INTEGER NOT NULL,
    PRIMARY KEY (agreement_id, caller, operator, period, begins_us)
) STRICT;
CREATE INDEX quota_use_by_time ON quota_use (begins_us);
