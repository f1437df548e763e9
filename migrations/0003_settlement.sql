-- What a person settled by hand, and running totals that cannot drift: every attempt
-- that is over is counted once, under the lock of its campaign, by what the ledger
-- said before. The nodes of an older program are stopped before this runs: they
-- would go on counting in the old way.

-- +goose Up

-- Nothing in this transaction may use these values yet: words that are cast when a
-- view or a function runs do not.
ALTER TYPE evidence      ADD VALUE 'person';
ALTER TYPE due_reason    ADD VALUE 'settled';
ALTER TYPE attempt_state ADD VALUE 'settled';

CREATE TYPE verdict AS ENUM ('not_called', 'answered', 'busy', 'no_answer', 'powered_off', 'unreachable', 'rejected', 'blocked',
                             'suspended', 'invalid_number', 'line_fault', 'config_error', 'unknown');

CREATE TABLE settlement (
    account_id    int         NOT NULL,
    attempt_id    bigint      NOT NULL,
    verdict       verdict     NOT NULL,
    redial        boolean     NOT NULL,
    reason        text        NOT NULL CHECK (reason <> ''),
    person        text        NOT NULL CHECK (person <> ''),
    second_person text        CHECK (second_person NOT IN ('', person)),
    settled_at    timestamptz NOT NULL,
    PRIMARY KEY (account_id, attempt_id)
);
COMMENT ON TABLE  settlement IS 'Attempts in doubt that a person settled by hand, and why. A verdict that is an outcome has its row in outcome, too.';
COMMENT ON COLUMN settlement.verdict IS 'not_called: no call was made. Anything else: the outcome the person saw in the records of the platform.';
COMMENT ON COLUMN settlement.redial IS 'The person wants the contact called again. Otherwise it is done: no retry rule calls it.';
COMMENT ON COLUMN settlement.second_person IS 'Who looked at it, too: many at once need two people.';
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON settlement EXECUTE FUNCTION append_only();

-- +goose StatementBegin
CREATE FUNCTION gone_on(account int, attempt bigint) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT FROM attempt n WHERE n.account_id = account AND n.attempt_id = attempt + 1)
        OR EXISTS (SELECT FROM due  d WHERE d.account_id = account AND d.campaign_id = (attempt >> 41)::int AND d.n = ((attempt >> 10) & 2147483647)::int)
        OR EXISTS (SELECT FROM skip s WHERE s.account_id = account AND s.campaign_id = (attempt >> 41)::int AND s.n = ((attempt >> 10) & 2147483647)::int)
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION gone_on IS 'Whether the contact of an attempt waits for its next one, has had it, or is skipped.';

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION due_after_the_end() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    last    bigint := (NEW.campaign_id::bigint << 41) | (NEW.n::bigint << 10) | (NEW.try - 1);
    settled boolean;
BEGIN
    IF NEW.try = 1 THEN
        RETURN NULL;  -- held back by a cap before its first attempt
    END IF;
    -- Only a late answer about an attempt that was redialled comes here too late.
    IF EXISTS (SELECT FROM attempt a WHERE a.account_id = NEW.account_id AND a.attempt_id = last + 1)
       OR EXISTS (SELECT FROM skip s WHERE s.account_id = NEW.account_id AND s.campaign_id = NEW.campaign_id AND s.n = NEW.n) THEN
        RAISE EXCEPTION 'contact % of campaign % has gone on: it cannot wait for try %', NEW.n, NEW.campaign_id, NEW.try;
    END IF;
    SELECT s.redial INTO settled FROM settlement s WHERE s.account_id = NEW.account_id AND s.attempt_id = last;
    IF NEW.reason = 'settled' OR FOUND THEN
        IF settled AND NEW.reason = 'settled' THEN
            RETURN NULL;
        END IF;
    ELSIF EXISTS (SELECT FROM response r WHERE r.account_id = NEW.account_id AND r.attempt_id = last AND r.class IN ('throttled', 'refused', 'unsent'))
       OR EXISTS (SELECT FROM outcome o WHERE o.account_id = NEW.account_id AND o.attempt_id = last)
       OR (NEW.reason = 'lost' AND EXISTS (SELECT FROM lost l WHERE l.account_id = NEW.account_id AND l.attempt_id = last)) THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION 'contact % of campaign % may have been called by attempt %: it cannot be pending again', NEW.n, NEW.campaign_id, last;
END $$;
-- +goose StatementEnd
COMMENT ON FUNCTION due_after_the_end IS 'A contact is pending again only after a definite no, an outcome, or a loss its campaign chose to redial; after a settlement only if the person said so.';

-- ---------------------------------------------------------------------------
-- Running totals
-- ---------------------------------------------------------------------------

COMMENT ON COLUMN progress.label IS 'response:<class>, outcome:<outcome>; closed: attempts that are not open any more, each counted once at the first of a definite no, an outcome, a loss and a settlement; unknown: contacts whose last attempt is lost, one less when one of them is settled; skip:expired. node_id 0: a person at the command line.';

DELETE FROM progress WHERE label LIKE 'lost%' OR label LIKE 'contradiction:%';
INSERT INTO progress (account_id, campaign_id, label, node_id, seq, total)
SELECT a.account_id, a.campaign_id, 'closed', 0, 1, count(*)
  FROM attempt a
  LEFT JOIN response r ON r.account_id = a.account_id AND r.attempt_id = a.attempt_id AND r.class IN ('throttled', 'refused', 'unsent')
  LEFT JOIN outcome  o ON o.account_id = a.account_id AND o.attempt_id = a.attempt_id
  LEFT JOIN lost     l ON l.account_id = a.account_id AND l.attempt_id = a.attempt_id
 WHERE r.attempt_id IS NOT NULL OR o.attempt_id IS NOT NULL OR l.attempt_id IS NOT NULL
 GROUP BY a.account_id, a.campaign_id
UNION ALL
SELECT l.account_id, (l.attempt_id >> 41)::int, 'unknown', 0, 1, count(*)
  FROM lost l
 WHERE NOT EXISTS (SELECT FROM outcome o WHERE o.account_id = l.account_id AND o.attempt_id = l.attempt_id)
   AND NOT EXISTS (SELECT FROM response r WHERE r.account_id = l.account_id AND r.attempt_id = l.attempt_id AND r.class IN ('throttled', 'refused', 'unsent'))
   AND NOT gone_on(l.account_id, l.attempt_id)
 GROUP BY 1, 2;

-- ---------------------------------------------------------------------------
-- Views: columns are added at the end only
-- ---------------------------------------------------------------------------

CREATE OR REPLACE VIEW report.attempt AS
SELECT ac.name                 AS account,
       c.name                  AS campaign,
       a.n                     AS contact,
       masked(a.phone)         AS phone,
       a.try,
       a.chance,
       CASE WHEN o.attempt_id IS NOT NULL                        THEN 'ended'
            WHEN r.class IN ('throttled', 'refused', 'unsent')   THEN r.class::text
            WHEN s.attempt_id IS NOT NULL                        THEN 'settled'
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
       a.attempt_id,
       s.person                AS settled_by,
       s.reason                AS settled_reason
  FROM attempt a
  JOIN campaign c ON c.campaign_id = a.campaign_id
  JOIN account ac ON ac.account_id = a.account_id
  LEFT JOIN response   r ON r.account_id = a.account_id AND r.attempt_id = a.attempt_id
  LEFT JOIN outcome    o ON o.account_id = a.account_id AND o.attempt_id = a.attempt_id
  LEFT JOIN lost       l ON l.account_id = a.account_id AND l.attempt_id = a.attempt_id
  LEFT JOIN settlement s ON s.account_id = a.account_id AND s.attempt_id = a.attempt_id;
COMMENT ON COLUMN report.attempt.state IS 'dialing, accepted, throttled, refused, unsent, unknown, ended, lost or settled (a person said that no call was made): see docs/state-machine.md.';
COMMENT ON COLUMN report.attempt.settled_by IS 'Who settled it by hand, if somebody did; settled_reason says why.';

CREATE OR REPLACE VIEW report.contact AS
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
            WHEN a.settled                                        THEN 'done'
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
       SELECT t.attempt_id, t.try, t.intent_at, r.class, r.code, o.outcome, o.talk_s, l.attempt_id IS NOT NULL AS lost, h.attempt_id IS NOT NULL AS settled
         FROM attempt t
         LEFT JOIN response   r ON r.account_id = t.account_id AND r.attempt_id = t.attempt_id
         LEFT JOIN outcome    o ON o.account_id = t.account_id AND o.attempt_id = t.attempt_id
         LEFT JOIN lost       l ON l.account_id = t.account_id AND l.attempt_id = t.attempt_id
         LEFT JOIN settlement h ON h.account_id = t.account_id AND h.attempt_id = t.attempt_id
        WHERE t.account_id = k.account_id
          AND t.attempt_id BETWEEN ((k.campaign_id::bigint << 41) | (k.n::bigint << 10)) AND ((k.campaign_id::bigint << 41) | (k.n::bigint << 10) | 1023)
        ORDER BY t.attempt_id DESC
        LIMIT 1) a ON true;

CREATE OR REPLACE VIEW report.campaign AS
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
               p.unknown, coalesce(b.intents, 0) - p.closed AS open
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
                      coalesce(sum(total) FILTER (WHERE label = 'closed'), 0)             AS closed,
                      coalesce(sum(total) FILTER (WHERE label = 'unknown'), 0)            AS unknown,
                      coalesce(sum(total) FILTER (WHERE label = 'skip:expired'), 0)       AS expired
                 FROM (SELECT DISTINCT ON (label, node_id) label, total FROM progress
                        WHERE account_id = c.account_id AND campaign_id = c.campaign_id
                        ORDER BY label, node_id, seq DESC) t) p) f;

CREATE VIEW report.settlement AS
SELECT s.settled_at, ac.name AS account, c.name AS campaign, a.n AS contact, masked(a.phone) AS phone, a.try, s.verdict, s.redial,
       s.person AS settled_by, s.second_person, s.reason, out_id(s.attempt_id) AS out_id, s.account_id, a.campaign_id, s.attempt_id
  FROM settlement s
  JOIN attempt a ON a.account_id = s.account_id AND a.attempt_id = s.attempt_id
  JOIN campaign c ON c.campaign_id = a.campaign_id
  JOIN account ac ON ac.account_id = s.account_id;
COMMENT ON VIEW report.settlement IS 'Attempts in doubt that a person settled by hand: as what, who and why.';

-- +goose StatementBegin
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'dialer_reader') THEN
        GRANT SELECT ON report.settlement TO dialer_reader;
    END IF;
END $$;
-- +goose StatementEnd
