-- Views for people, in a schema of their own, kept stable: docs/queries.md has
-- queries over them. Numbers are masked here; the tables behind belong to the
-- program. The role dialer_reader may read this schema and nothing else.

-- +goose Up

CREATE SCHEMA report;
COMMENT ON SCHEMA report IS 'Views for people: stable, documented in docs/queries.md, numbers masked.';

CREATE VIEW report.attempt AS
SELECT ac.name                 AS account,
       c.name                  AS campaign,
       a.n                     AS contact,
       masked(a.phone)         AS phone,
       a.try,
       a.chance,
       CASE WHEN o.attempt_id IS NOT NULL                        THEN 'ended'
            WHEN r.class IN ('throttled', 'refused', 'unsent')   THEN r.class::text
            WHEN l.attempt_id IS NOT NULL                        THEN 'lost'
            WHEN r.class = 'accepted'                            THEN 'accepted'
            WHEN EXISTS (SELECT FROM receipt e WHERE e.account_id = a.account_id AND e.attempt_id = a.attempt_id)
                                                                 THEN 'accepted'
            WHEN r.class = 'unknown'                             THEN 'unknown'
            -- The node that made it would have written its response by now.
            WHEN a.send_by < now() - interval '60 seconds'       THEN 'unknown'
            ELSE 'dialing' END::attempt_state AS state,
       a.caller_id,
       a.intent_at,
       r.sent_at,
       r.answered_at           AS responded_at,
       r.code,
       r.message,
       coalesce(o.call_id, r.call_id) AS call_id,
       o.outcome,
       o.status_code,
       o.status_msg,
       o.smart_status_code,
       o.early_media_code,
       o.rang_at,
       o.answered_at,
       o.ended_at,
       o.talk_s,
       o.hangup,
       o.source,
       out_id(a.attempt_id)    AS out_id,
       a.account_id,
       a.campaign_id,
       a.attempt_id
  FROM attempt a
  JOIN campaign c ON c.campaign_id = a.campaign_id
  JOIN account ac ON ac.account_id = a.account_id
  LEFT JOIN response r ON r.account_id = a.account_id AND r.attempt_id = a.attempt_id
  LEFT JOIN outcome  o ON o.account_id = a.account_id AND o.attempt_id = a.attempt_id
  LEFT JOIN lost     l ON l.account_id = a.account_id AND l.attempt_id = a.attempt_id;
COMMENT ON VIEW   report.attempt IS 'One row per attempt, with its state, the platform''s response and the outcome of its call.';
COMMENT ON COLUMN report.attempt.state IS 'dialing, accepted, throttled, refused, unsent, unknown, ended or lost: see docs/state-machine.md.';
COMMENT ON COLUMN report.attempt.out_id IS 'The OutId of the request. To look one up: WHERE attempt_id = attempt_id(''…'').';
COMMENT ON COLUMN report.attempt.answered_at IS 'When the person answered; responded_at is when the platform answered the request.';

CREATE VIEW report.contact AS
SELECT ac.name                 AS account,
       c.name                  AS campaign,
       k.n                     AS contact,
       masked(k.phone)         AS phone,
       k.line,
       CASE WHEN s.n IS NOT NULL                                  THEN s.reason::text
            WHEN d.n IS NOT NULL OR a.attempt_id IS NULL          THEN CASE c.state WHEN 'cancelled' THEN 'cancelled' ELSE 'pending' END
            WHEN a.outcome IS NOT NULL OR a.class = 'refused'     THEN 'done'
            -- Back for another try, but it had its 1023: see MaxTries.
            WHEN a.class IN ('throttled', 'unsent')               THEN 'done'
            WHEN a.lost                                           THEN 'unknown'
            ELSE 'open' END::contact_state AS state,
       a.outcome,
       a.talk_s,
       CASE WHEN a.outcome IS NULL THEN a.code END AS code,
       coalesce(a.try, 0)      AS attempts,
       a.intent_at             AS last_attempt_at,
       d.due_at,
       d.reason                AS due_reason,
       k.account_id,
       k.campaign_id
  FROM contact k
  JOIN campaign c ON c.campaign_id = k.campaign_id
  JOIN account ac ON ac.account_id = k.account_id
  LEFT JOIN skip s ON s.account_id = k.account_id AND s.campaign_id = k.campaign_id AND s.n = k.n
  LEFT JOIN due  d ON d.account_id = k.account_id AND d.campaign_id = k.campaign_id AND d.n = k.n
  LEFT JOIN LATERAL (
       SELECT t.attempt_id, t.try, t.intent_at, r.class, r.code, o.outcome, o.talk_s, l.attempt_id IS NOT NULL AS lost
         FROM attempt t
         LEFT JOIN response r ON r.account_id = t.account_id AND r.attempt_id = t.attempt_id
         LEFT JOIN outcome  o ON o.account_id = t.account_id AND o.attempt_id = t.attempt_id
         LEFT JOIN lost     l ON l.account_id = t.account_id AND l.attempt_id = t.attempt_id
        WHERE t.account_id = k.account_id
          AND t.attempt_id BETWEEN ((k.campaign_id::bigint << 41) | (k.n::bigint << 10)) AND ((k.campaign_id::bigint << 41) | (k.n::bigint << 10) | 1023)
        ORDER BY t.attempt_id DESC
        LIMIT 1) a ON true;
COMMENT ON VIEW   report.contact IS 'One row per contact: its state, and what became of its last attempt.';
COMMENT ON COLUMN report.contact.state IS 'pending, open (an attempt is not final yet), done, suppressed, cancelled, expired or unknown (lost).';
COMMENT ON COLUMN report.contact.code IS 'The platform''s code where no call came about.';

CREATE VIEW report.campaign AS
SELECT f.account, f.campaign, f.state, f.reason, f.next_run_at, f.imported, f.rejects, f.duplicates,
       CASE f.state WHEN 'cancelled' THEN 0 ELSE f.waiting END AS pending,
       f.open,
       f.used - f.suppressed - f.expired - f.due - f.open - f.unknown AS done,
       f.suppressed,
       CASE f.state WHEN 'cancelled' THEN f.waiting ELSE 0 END AS cancelled,
       f.expired, f.unknown, f.attempts, f.accepted, f.throttled, f.refused, f.unsent, f.doubtful, f.answered,
       round(100.0 * f.answered / nullif(f.ended, 0), 1) AS answered_percent,
       f.account_id, f.campaign_id
  FROM (SELECT ac.name AS account, c.name AS campaign, c.state, c.reason, c.next_run_at, c.account_id, c.campaign_id,
               i.contacts AS imported, i.rejects, i.duplicates,
               coalesce(b.upto_n, 0) AS used, coalesce(b.intents, 0) AS attempts, coalesce(b.suppressed, 0) AS suppressed,
               d.due, i.contacts - coalesce(b.upto_n, 0) + d.due AS waiting,
               p.expired, p.accepted, p.throttled, p.refused, p.unsent, p.doubtful, p.ended, p.answered,
               p.lost - p.settled - p.redialled AS unknown,
               coalesce(b.intents, 0) - p.throttled - p.refused - p.unsent - p.ended - (p.lost - p.settled - p.redialled_settled) + p.contradictions AS open
          FROM campaign c
          JOIN account ac USING (account_id)
          CROSS JOIN LATERAL (SELECT coalesce(sum(contacts), 0) AS contacts, coalesce(sum(rejects), 0) AS rejects, coalesce(sum(duplicates), 0) AS duplicates
                                FROM import WHERE account_id = c.account_id AND campaign_id = c.campaign_id) i
          LEFT JOIN LATERAL (SELECT upto_n, intents, suppressed FROM batch
                              WHERE account_id = c.account_id AND campaign_id = c.campaign_id ORDER BY seq DESC LIMIT 1) b ON true
          CROSS JOIN LATERAL (SELECT count(*) AS due FROM due WHERE account_id = c.account_id AND campaign_id = c.campaign_id) d
          CROSS JOIN LATERAL (
               SELECT coalesce(sum(total) FILTER (WHERE label = 'response:accepted'), 0)  AS accepted,
                      coalesce(sum(total) FILTER (WHERE label = 'response:throttled'), 0) AS throttled,
                      coalesce(sum(total) FILTER (WHERE label = 'response:refused'), 0)   AS refused,
                      coalesce(sum(total) FILTER (WHERE label = 'response:unsent'), 0)    AS unsent,
                      coalesce(sum(total) FILTER (WHERE label = 'response:unknown'), 0)   AS doubtful,
                      coalesce(sum(total) FILTER (WHERE label LIKE 'outcome:%'), 0)       AS ended,
                      coalesce(sum(total) FILTER (WHERE label = 'outcome:answered'), 0)   AS answered,
                      coalesce(sum(total) FILTER (WHERE label = 'lost'), 0)               AS lost,
                      -- lost attempts of which an outcome or a definite no came after all
                      coalesce(sum(total) FILTER (WHERE label LIKE 'lost:settled:%'), 0)  AS settled,
                      coalesce(sum(total) FILTER (WHERE label = 'lost:redialled'), 0)     AS redialled,
                      coalesce(sum(total) FILTER (WHERE label LIKE 'lost:redialled:%'), 0) AS redialled_settled,
                      -- attempts that are counted twice above: as a definite no, and by their outcome
                      coalesce(sum(total) FILTER (WHERE label LIKE 'contradiction:%'), 0) AS contradictions,
                      coalesce(sum(total) FILTER (WHERE label = 'skip:expired'), 0)       AS expired
                 FROM (SELECT DISTINCT ON (label, node_id) label, total FROM progress
                        WHERE account_id = c.account_id AND campaign_id = c.campaign_id
                        ORDER BY label, node_id, seq DESC) t) p) f;
COMMENT ON VIEW   report.campaign IS 'One row per campaign from its running totals: cheap at any size. imported = pending + open + done + suppressed + cancelled + expired + unknown.';
COMMENT ON COLUMN report.campaign.unknown IS 'Contacts whose attempt nobody could account for by its deadline.';
COMMENT ON COLUMN report.campaign.doubtful IS 'Attempts whose request may have left without an understood answer; most are settled by a receipt.';

CREATE VIEW report.outcome AS
SELECT ac.name AS account, c.name AS campaign, substr(t.label, 9)::call_outcome AS outcome, sum(t.total)::bigint AS calls,
       round(100.0 * sum(t.total) / sum(sum(t.total)) OVER (PARTITION BY t.campaign_id), 1) AS percent,
       t.account_id, t.campaign_id
  FROM (SELECT DISTINCT ON (account_id, campaign_id, label, node_id) account_id, campaign_id, label, total FROM progress
         WHERE label LIKE 'outcome:%'
         ORDER BY account_id, campaign_id, label, node_id, seq DESC) t
  JOIN campaign c USING (campaign_id)
  JOIN account ac ON ac.account_id = t.account_id
 GROUP BY ac.name, c.name, t.account_id, t.campaign_id, t.label;
COMMENT ON VIEW report.outcome IS 'Outcomes per campaign, from the running totals.';

CREATE VIEW report.hour AS
SELECT account, campaign, date_trunc('hour', intent_at AT TIME ZONE 'Asia/Shanghai') AS hour,
       count(*) AS attempts,
       count(*) FILTER (WHERE code = 'OK') AS accepted,
       count(*) FILTER (WHERE outcome IS NOT NULL) AS ended,
       count(*) FILTER (WHERE outcome = 'answered') AS answered,
       round(100.0 * count(*) FILTER (WHERE outcome = 'answered') / nullif(count(*) FILTER (WHERE outcome IS NOT NULL), 0), 1) AS answered_percent,
       coalesce(sum(talk_s), 0) AS talk_s,
       account_id, campaign_id
  FROM report.attempt
 GROUP BY account, campaign, hour, account_id, campaign_id;
COMMENT ON VIEW report.hour IS 'Attempts and answers per hour, China time.';

CREATE VIEW report.caller_id AS
SELECT account, campaign, caller_id,
       count(*) AS attempts,
       count(*) FILTER (WHERE outcome IS NOT NULL) AS ended,
       count(*) FILTER (WHERE outcome = 'answered') AS answered,
       round(100.0 * count(*) FILTER (WHERE outcome = 'answered') / nullif(count(*) FILTER (WHERE outcome IS NOT NULL), 0), 1) AS answered_percent,
       count(*) FILTER (WHERE outcome IN ('blocked', 'line_fault', 'config_error')) AS number_trouble,
       account_id, campaign_id
  FROM report.attempt
 GROUP BY account, campaign, caller_id, account_id, campaign_id;
COMMENT ON VIEW report.caller_id IS 'Answers per number shown: a number that apps have marked as a nuisance shows here first.';

CREATE VIEW report.run AS
SELECT ac.name AS account, c.name AS campaign, r.run_id, r.planned_at, r.started_at, r.ended_at, r.end_reason, r.note, r.version, r.account_id, r.campaign_id
  FROM run r
  JOIN campaign c USING (campaign_id)
  JOIN account ac ON ac.account_id = r.account_id;
COMMENT ON VIEW report.run IS 'One row per firing of a schedule, whether it ran or not, and per start by a person.';

CREATE VIEW report.import AS
SELECT c.name AS campaign, i.file, i.imported_at, i.rows, i.contacts, i.duplicates, i.rejects, i.first_n, i.last_n, encode(i.sha256, 'hex') AS sha256, i.account_id, i.campaign_id
  FROM import i
  JOIN campaign c USING (campaign_id);
COMMENT ON VIEW report.import IS 'One row per contact file taken in. rows = contacts + duplicates + rejects.';

CREATE VIEW report.suppression AS
SELECT masked(phone) AS phone, until, reason, source, added_at FROM suppression;
COMMENT ON VIEW report.suppression IS 'Numbers that must not be called.';

CREATE VIEW report.incident AS
SELECT i.at, ac.name AS account, c.name AS campaign, i.kind, i.detail, out_id(i.attempt_id) AS out_id
  FROM incident i
  JOIN account ac USING (account_id)
  LEFT JOIN campaign c USING (campaign_id);
COMMENT ON VIEW report.incident IS 'What a person should look at.';

-- +goose StatementBegin
DO $$
BEGIN
    -- Roles belong to the whole server: another database of it may have made this one,
    -- and a managed server may not let us.
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'dialer_reader') THEN
        CREATE ROLE dialer_reader NOLOGIN;
    END IF;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN NULL;
    WHEN insufficient_privilege THEN
        RAISE NOTICE 'no right to create the role dialer_reader: create it and grant it SELECT on schema report';
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'dialer_reader') THEN
        GRANT USAGE ON SCHEMA report TO dialer_reader;
        GRANT SELECT ON ALL TABLES IN SCHEMA report TO dialer_reader;
    END IF;
END $$;
-- +goose StatementEnd
REVOKE ALL ON instance FROM PUBLIC;
