-- Which keys have sealed bodies, by fingerprint.
CREATE TABLE body_keys (
    fingerprint TEXT PRIMARY KEY,
    adopted_us  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
