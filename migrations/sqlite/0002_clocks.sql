-- Which course within its kind an exchange takes; some clocks run on one only.
ALTER TABLE exchanges ADD COLUMN track TEXT;

-- The clocks of the law that run, or ran, in an exchange. What a rule said is kept beside it: rules change, and what
-- ran under the old one ends under it. overdue_us is set by the gateway's timer, with an audit entry of its own.
CREATE TABLE running_clocks (
    exchange_id BLOB NOT NULL,
    clock       TEXT NOT NULL,
    round       INTEGER NOT NULL,
    articles    TEXT NOT NULL,
    source      TEXT NOT NULL,
    started_us  INTEGER NOT NULL,
    due_us      INTEGER NOT NULL,
    due_on      TEXT,
    estimate    INTEGER NOT NULL CHECK (estimate IN (0, 1)),
    stopped_us  INTEGER,
    overdue_us  INTEGER,
    PRIMARY KEY (exchange_id, clock, round)
) STRICT, WITHOUT ROWID;

-- What the timer looks for: a look costs what it finds.
CREATE INDEX running_clocks_due ON running_clocks (due_us) WHERE stopped_us IS NULL AND overdue_us IS NULL;
CREATE INDEX running_clocks_overdue ON running_clocks (exchange_id, clock)
    WHERE stopped_us IS NULL AND overdue_us IS NOT NULL;
