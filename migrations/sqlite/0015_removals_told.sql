-- Index of the entry that tells of the removal: what the row says is not signed, and only helps to find what is.
ALTER TABLE removed_entries ADD COLUMN told_idx INTEGER;
