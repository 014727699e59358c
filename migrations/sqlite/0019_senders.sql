-- Whose message a delivery brings: of what waits for one recipient, each sender has its share. Empty for the answer to a
-- verification that was put off before this column was there.
ALTER TABLE deliveries ADD COLUMN sender TEXT NOT NULL DEFAULT '';
UPDATE deliveries SET sender = COALESCE((SELECT CASE e.recipient WHEN deliveries.recipient THEN e.sender ELSE e.recipient END
    FROM exchanges e WHERE e.exchange_id = deliveries.exchange_id), '');
CREATE INDEX deliveries_by_sender ON deliveries (recipient, sender, due_us) WHERE state IN ('PENDING', 'LEASED');
