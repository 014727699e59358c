-- Which gateway is delivering: of several on one database, one that starts takes back its own leases only. NULL for what an
-- agency pulled.
ALTER TABLE deliveries ADD COLUMN lease_node TEXT;
