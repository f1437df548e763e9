-- A standby that every commit waited for has everything when it is promoted:
-- docs/decisions/0010-synchronous-standby.md. So each account remembers whether that was
-- so while it was dialled.

-- +goose Up

ALTER TABLE lease ADD COLUMN synchronous boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN lease.synchronous IS 'When the holder renewed the lease last, on lease.server, commits waited for a standby (synchronous_standby_names): the next promotion has lost nothing, and nobody need vouch for it in person.';
