-- Questions that a register could not answer and that the gateway asks again. The question is sealed (AES-256-GCM) and removed
-- once there is an answer; the answer is a message in the outbox, under the verification's id.
CREATE TABLE verifications (
    verification_id BLOB PRIMARY KEY,
    kind            TEXT NOT NULL,
    state           TEXT NOT NULL,
    caller          TEXT NOT NULL,
    registry        TEXT NOT NULL,
    matter_id       TEXT NOT NULL,
    attempts        INTEGER NOT NULL,
    due_us          INTEGER NOT NULL,
    created_us      INTEGER NOT NULL,
    updated_us      INTEGER NOT NULL,
    question        BLOB
) STRICT, WITHOUT ROWID;
CREATE INDEX verifications_open ON verifications (due_us) WHERE state = 'PENDING';
