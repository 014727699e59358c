-- Attachments. The digest is keyed, name and media type are sealed: nothing that could confirm a guess at a paper stands
-- beside it. Chunks are sealed, 64 KiB of clear bytes each but the last.
CREATE TABLE attachments (
    attachment_id BLOB PRIMARY KEY,
    owner         TEXT NOT NULL,
    digest        BLOB NOT NULL,
    size          INTEGER NOT NULL,
    details       BLOB NOT NULL,
    received      INTEGER NOT NULL,
    touched_us    INTEGER NOT NULL,
    completed_us  INTEGER,
    UNIQUE (owner, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX attachments_by_digest ON attachments (digest);
CREATE INDEX attachments_unfinished ON attachments (touched_us) WHERE completed_us IS NULL;

CREATE TABLE attachment_chunks (
    attachment_id BLOB NOT NULL,
    idx           INTEGER NOT NULL,
    chunk         BLOB NOT NULL,
    PRIMARY KEY (attachment_id, idx)
) STRICT;

-- Which messages name which digest, and whose messages they are: only the uploader's own message shares an attachment.
CREATE TABLE exchange_attachments (
    exchange_id BLOB NOT NULL,
    named_by    TEXT NOT NULL,
    digest      BLOB NOT NULL,
    PRIMARY KEY (exchange_id, named_by, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX exchange_attachments_by_digest ON exchange_attachments (digest);
