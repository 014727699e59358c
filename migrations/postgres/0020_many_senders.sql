-- A planner that has counted one sender, or none, takes any index for as good, and goes through a flood of one to find the message of
-- another. It is to expect many, whatever it has counted.
ALTER TABLE deliveries ALTER COLUMN sender SET (n_distinct = 1000);
ANALYZE deliveries;
