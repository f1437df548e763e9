-- The rollback guard: docs/decisions/0007-rollback-guard.md. A database that was
-- restored, cloned or failed over may have forgotten intents, and whom they called
-- looks as if nobody had called. So each account remembers the server on which it was
-- last dialled in good faith, and no intent is written on another.

-- +goose Up

-- +goose StatementBegin
CREATE FUNCTION server_history() RETURNS text LANGUAGE sql STABLE AS $$
    SELECT (SELECT system_identifier FROM pg_control_system()) || '/' ||
           ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int || '/' ||
           (SELECT oid FROM pg_database WHERE datname = current_database())
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION server_history IS 'Cluster, timeline and database as <system identifier>/<timeline>/<oid>. It changes when a standby is promoted, a backup is recovered to a point in time, or a dump is loaded elsewhere.';

-- +goose StatementBegin
CREATE FUNCTION server_now() RETURNS text LANGUAGE sql STABLE AS $$
    SELECT server_history() || '@' || (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION server_now IS 'The history and the start of the server. Nothing that was committed can be taken back without a change of this, but for a dump loaded in place.';

ALTER TABLE batch ADD COLUMN empty boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN batch.empty IS 'It only takes its number, so that a statement of which nobody knew whether it was executed never is.';

ALTER TABLE lease ADD COLUMN server text;
UPDATE lease SET server = server_now();
ALTER TABLE lease ALTER COLUMN server SET NOT NULL, ALTER COLUMN server SET DEFAULT server_now();
COMMENT ON COLUMN lease.server IS 'The server (server_now) on which the account may be dialled: a node has found all its batches there, or a person has said that it is the right one.';
