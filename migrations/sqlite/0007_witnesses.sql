-- What witnesses have signed of the audit log: the newest of each, and all of the newest checkpoint that has a quorum.
CREATE TABLE audit_cosignatures (
    size        INTEGER NOT NULL,
    witness     TEXT NOT NULL,
    checkpoint  TEXT NOT NULL,
    line        TEXT NOT NULL,
    PRIMARY KEY (size, witness)
) STRICT;
