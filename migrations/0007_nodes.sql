-- Accounts spread over the nodes: docs/decisions/0008-spreading-accounts.md. A node says
-- until when others may count on it and which accounts it cannot dial; a holder that gives
-- its account back says how long its last requests still count.

-- +goose Up

ALTER TABLE node
    ADD COLUMN until   timestamptz,
    ADD COLUMN spreads boolean NOT NULL DEFAULT true,
    ADD COLUMN refused jsonb   NOT NULL DEFAULT '{}';
COMMENT ON COLUMN node.until IS 'Until when the other nodes count on it, by the clock of the database; null: it has not begun or has left.';
COMMENT ON COLUMN node.spreads IS 'It takes its share of all accounts; false: it was started for one account.';
COMMENT ON COLUMN node.refused IS 'Accounts that it cannot dial now, and why: {"<account_id>": "<reason>"}.';

ALTER TABLE lease ADD COLUMN rest int[];
COMMENT ON COLUMN lease.rest IS 'Of a lease that was given back: how many requests of its holder still counted at the platform then, by fiftieths of a second: the first number is of those that count for no more than one, and so on. Null: not known, the next holder waits for a second.';
