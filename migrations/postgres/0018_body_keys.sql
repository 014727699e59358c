-- Which keys have sealed bodies, by fingerprint.
CREATE TABLE body_keys (
    fingerprint TEXT COLLATE "C" PRIMARY KEY,
    adopted_us  BIGINT NOT NULL
);
