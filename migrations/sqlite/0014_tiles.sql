-- A table without rowids compares whole rows as it looks for one: of some sixteen tiles of 8 KB, each spread over three pages, to
-- find one among ten million entries. Here it compares their places alone.
CREATE TABLE tiles (
    level  INTEGER NOT NULL,
    idx    INTEGER NOT NULL,
    hashes BLOB NOT NULL,
    UNIQUE (level, idx)
) STRICT;
INSERT INTO tiles (level, idx, hashes) SELECT level, idx, hashes FROM audit_tiles ORDER BY level, idx;
DROP TABLE audit_tiles;
ALTER TABLE tiles RENAME TO audit_tiles;
