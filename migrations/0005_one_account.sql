-- A condition on the account must reach the rows of progress, which are kept by account:
-- docs/decisions/0009-citus.md. It stops at a window that is not cut by it.

-- +goose Up

CREATE OR REPLACE VIEW report.outcome AS
SELECT ac.name AS account, c.name AS campaign, substr(t.label, 9)::call_outcome AS outcome, sum(t.total)::bigint AS calls,
       round(100.0 * sum(t.total) / sum(sum(t.total)) OVER (PARTITION BY t.account_id, t.campaign_id), 1) AS percent,
       t.account_id, t.campaign_id
  FROM (SELECT DISTINCT ON (account_id, campaign_id, label, node_id) account_id, campaign_id, label, total FROM progress
         WHERE label LIKE 'outcome:%'
         ORDER BY account_id, campaign_id, label, node_id, seq DESC) t
  JOIN campaign c USING (campaign_id)
  JOIN account ac ON ac.account_id = t.account_id
 GROUP BY ac.name, c.name, t.account_id, t.campaign_id, t.label;
