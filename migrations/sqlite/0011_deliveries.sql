-- An operator has a delivery that was given up made again: its patience, and the waits between its attempts, count from there.
ALTER TABLE deliveries ADD COLUMN redelivered_us INTEGER;
ALTER TABLE deliveries ADD COLUMN attempts_before INTEGER NOT NULL DEFAULT 0;

-- What operators look for, and what is released at start. Both hold few rows.
CREATE INDEX deliveries_dead ON deliveries (created_us) WHERE state = 'DEAD';
CREATE INDEX deliveries_leased ON deliveries (due_us) WHERE state = 'LEASED';
