-- Agreements, each version of each. terms is canonical JSON (RFC 8785), and digest its SHA-256, which the audit log names.
-- Of one agreement at most one version is in effect; what ended, or gave way to a later version, stays as a row.
CREATE TABLE agreements (
    agreement_id TEXT COLLATE "C" NOT NULL,
    version      BIGINT NOT NULL,
    state        TEXT COLLATE "C" NOT NULL,
    terms        TEXT NOT NULL,
    digest       BYTEA NOT NULL,
    PRIMARY KEY (agreement_id, version)
);
CREATE UNIQUE INDEX agreements_effective ON agreements (agreement_id) WHERE state = 'EFFECTIVE';
CREATE UNIQUE INDEX agreements_pending ON agreements (agreement_id) WHERE state = 'PENDING';

-- Who put, approved and ended a version, and which entry of the log says so. Without unit and operator it was the gateway, from
-- its directory file.
CREATE TABLE agreement_acts (
    agreement_id TEXT COLLATE "C" NOT NULL,
    version      BIGINT NOT NULL,
    act          TEXT COLLATE "C" NOT NULL,
    agency       TEXT COLLATE "C" NOT NULL,
    unit         TEXT COLLATE "C",
    operator     TEXT COLLATE "C",
    entry_idx    BIGINT NOT NULL,
    acted_us     BIGINT NOT NULL,
    PRIMARY KEY (agreement_id, version, act)
);

-- Grows with every change of the agreements: by it each gateway sees that it must read them again.
CREATE TABLE agreement_changes (
    id      BIGINT PRIMARY KEY CHECK (id = 1),
    changes BIGINT NOT NULL
);
INSERT INTO agreement_changes (id, changes) VALUES (1, 0);

-- Calls counted under an agreement's quota. operator is empty for the agency as a whole, else unit and staff number with a slash
-- between them. Rows whose time is past are forgotten.
CREATE TABLE quota_use (
    agreement_id TEXT COLLATE "C" NOT NULL,
    caller       TEXT COLLATE "C" NOT NULL,
    operator     TEXT COLLATE "C" NOT NULL,
    period       TEXT COLLATE "C" NOT NULL,
    begins_us    BIGINT NOT NULL,
    used         BIGINT NOT NULL,
    PRIMARY KEY (agreement_id, caller, operator, period, begins_us)
);
CREATE INDEX quota_use_by_time ON quota_use (begins_us);
