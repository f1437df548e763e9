-- Accounts spread over the nodes: docs/decisions/0008-spreading-accounts.md. A node says
-- until when others may count on it and which accounts it cannot dial; a holder that gives
-- its account back says how long the next one must still wait.

-- +goose Up

ALTER TABLE node
    ADD COLUMN until   timestamptz,
    ADD COLUMN spreads boolean NOT NULL DEFAULT true,
    ADD COLUMN refused jsonb   NOT NULL DEFAULT '{}';
COMMENT ON COLUMN node.until IS 'Until when the other nodes count on it, by the clock of the database; null: it has not begun or has left.';
COMMENT ON COLUMN node.spreads IS 'It takes its share of all accounts; false: it was started for one account.';
COMMENT ON COLUMN node.refused IS 'Accounts that it cannot dial now, and why: {"<account_id>": "<reason>"}.';

ALTER TABLE lease ADD COLUMN rest interval NOT NULL DEFAULT '1 second';
COMMENT ON COLUMN lease.rest IS 'Of a lease that was given back: how long the next holder waits before it dials. Requests of the last second count at the platform.';
