-- Run once, by the PostgreSQL container, on an empty data folder.
-- The migrations need a superuser for this extension; where the server is not ours, its owner runs this line.
-- Without it DevGuard works all the same, on native partitions.
CREATE EXTENSION IF NOT EXISTS timescaledb;
