-- Whose message a delivery brings: of what waits for one recipient, each sender has its share. Empty for the answer to a
-- verification that was put off before this column was there.
ALTER TABLE deliveries ADD COLUMN sender TEXT COLLATE "C" NOT NULL DEFAULT '';
UPDATE deliveries d SET sender = CASE e.recipient WHEN d.recipient THEN e.sender ELSE e.recipient END
    FROM exchanges e WHERE e.exchange_id = d.exchange_id;
CREATE INDEX deliveries_by_sender ON deliveries (recipient, sender, due_us) WHERE state IN ('PENDING', 'LEASED');
