-- What auditors made of findings. Marks are kept for ever beside each other; the newest holds. The comment is sealed.
CREATE TABLE finding_marks (
    request_index INTEGER PRIMARY KEY,
    finding_id    BLOB NOT NULL,
    mark          TEXT NOT NULL,
    comment       BLOB NOT NULL,
    marked_by     TEXT NOT NULL,
    unit          TEXT NOT NULL,
    operator      TEXT NOT NULL,
    marked_us     INTEGER NOT NULL
) STRICT;
CREATE INDEX finding_marks_by_finding ON finding_marks (finding_id, request_index);
