-- Run once, when PostgreSQL's volume is new. Two databases: both programs keep their schema's version in a table of
-- their own, and a backup of one is no backup of the other.
CREATE DATABASE ledger;
CREATE DATABASE prefect;
