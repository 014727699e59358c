-- Partitions of the log's entries that a pruning has taken out of their table. Each row was written in the transaction of the
-- entry told_idx, which names what went. An entry of the range that has no row in audit_entries was pruned, and its hash is in the
-- tiles; what says so to who verifies the log is that entry and not this table. dropped_us: when the table was dropped, where
-- it is not kept.
CREATE TABLE detached_partitions (
    name        TEXT COLLATE "C" PRIMARY KEY,
    first_idx   BIGINT NOT NULL,
    last_idx    BIGINT NOT NULL,
    told_idx    BIGINT NOT NULL,
    detached_us BIGINT NOT NULL,
    dropped_us  BIGINT
);
