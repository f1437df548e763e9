-- The whole schema of the first release: small tables that people change (account,
-- campaign, suppression, run) and the ledger that only grows (contact, attempt,
-- response, outcome, receipt). docs/ledger.md explains it; docs/state-machine.md
-- says how a state follows from the rows.
--
-- Rules that hold for every table here:
--   * what grows carries account_id, and its keys begin with it, so that it can be
--     distributed by account;
--   * states are words, never numbers or letters;
--   * the program passes every time as a parameter, but for the one check of the
--     database's own clock in the intent statement.

-- +goose Up

CREATE TYPE account_state  AS ENUM ('active', 'paused');
CREATE TYPE campaign_state AS ENUM ('idle', 'running', 'paused', 'cancelled');
CREATE TYPE contact_state  AS ENUM ('pending', 'open', 'done', 'suppressed', 'cancelled', 'expired', 'unknown');
CREATE TYPE attempt_state  AS ENUM ('dialing', 'accepted', 'throttled', 'refused', 'unsent', 'unknown', 'ended', 'lost');
CREATE TYPE response_class AS ENUM ('accepted', 'throttled', 'refused', 'unsent', 'unknown');
CREATE TYPE call_outcome   AS ENUM ('answered', 'busy', 'no_answer', 'powered_off', 'unreachable', 'rejected', 'blocked',
                                    'suspended', 'invalid_number', 'line_fault', 'config_error', 'unknown');
CREATE TYPE evidence       AS ENUM ('push', 'query');
CREATE TYPE skip_reason    AS ENUM ('suppressed', 'expired');
CREATE TYPE due_reason     AS ENUM ('throttled', 'unsent', 'hold', 'retry', 'cap', 'open', 'too_often', 'lost');
CREATE TYPE run_end        AS ENUM ('done', 'window_closed', 'cancelled', 'skipped');

-- ---------------------------------------------------------------------------
-- What people set up
-- ---------------------------------------------------------------------------

CREATE TABLE instance (
    one         boolean     PRIMARY KEY DEFAULT true CHECK (one),
    instance_id uuid        NOT NULL DEFAULT gen_random_uuid(),
    out_id_key  bytea       NOT NULL DEFAULT sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))
                            CHECK (length(out_id_key) = 32),
    created_at  timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE  instance IS 'One row: which database this is.';
COMMENT ON COLUMN instance.out_id_key IS 'Key of the OutIds (docs/decisions/0002-out-id.md). Without it no receipt can be matched: it is part of every backup, and nobody but the owner may read it.';
INSERT INTO instance DEFAULT VALUES;

CREATE TABLE node (
    node_id    int         PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    name       text        NOT NULL,
    version    text        NOT NULL,
    started_at timestamptz NOT NULL,
    seen_at    timestamptz NOT NULL
);
COMMENT ON TABLE node IS 'One row per start of a process that may dial; a restarted process is a new node.';

CREATE TABLE account (
    account_id int           PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    name       text          NOT NULL UNIQUE CHECK (name <> ''),
    spec       jsonb         NOT NULL,
    state      account_state NOT NULL DEFAULT 'active',
    reason     text          NOT NULL DEFAULT '',
    changed_at timestamptz   NOT NULL,
    CHECK (state = 'active' OR reason <> '')
);
COMMENT ON TABLE  account IS 'Credentials and quota at the platform. No secrets: spec holds references to them.';
COMMENT ON COLUMN account.spec IS 'The account file as applied.';
COMMENT ON COLUMN account.reason IS 'Why the account is paused: by whom, or which answer of the platform.';

CREATE TABLE lease (
    account_id int         PRIMARY KEY REFERENCES account,
    term       int         NOT NULL DEFAULT 0,
    node_id    int         REFERENCES node,
    until      timestamptz
);
COMMENT ON TABLE  lease IS 'Which node holds an account. Only the holder of the current term may write intents.';
COMMENT ON COLUMN lease.term IS 'Counts the holders; every intent names it, so that a holder who slept through its lease writes nothing.';
COMMENT ON COLUMN lease.node_id IS 'Null: given back by its last holder.';

CREATE TABLE campaign (
    campaign_id int            PRIMARY KEY GENERATED ALWAYS AS IDENTITY CHECK (campaign_id < 4194304),
    account_id  int            NOT NULL REFERENCES account,
    name        text           NOT NULL UNIQUE CHECK (name <> ''),
    version     int            NOT NULL,
    state       campaign_state NOT NULL DEFAULT 'idle',
    reason      text           NOT NULL DEFAULT '',
    next_run_at timestamptz,
    changed_at  timestamptz    NOT NULL,
    CHECK (state <> 'paused' OR reason <> '')
);
COMMENT ON TABLE  campaign IS 'A list of contacts to call, with schedule, windows, pace and retry rules.';
COMMENT ON COLUMN campaign.version IS 'The campaign_version in force for the next run.';
COMMENT ON COLUMN campaign.next_run_at IS 'The next firing of the schedule; advanced in the transaction that creates the run. Null: no schedule.';

CREATE TABLE campaign_version (
    campaign_id int         NOT NULL REFERENCES campaign,
    version     int         NOT NULL CHECK (version >= 1),
    spec        jsonb       NOT NULL,
    applied_at  timestamptz NOT NULL,
    PRIMARY KEY (campaign_id, version)
);
COMMENT ON TABLE campaign_version IS 'Every campaign file that was applied. A run works on the version it began with.';
ALTER TABLE campaign ADD FOREIGN KEY (campaign_id, version) REFERENCES campaign_version DEFERRABLE INITIALLY DEFERRED;

CREATE TABLE run (
    run_id      bigint      PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    account_id  int         NOT NULL REFERENCES account,
    campaign_id int         NOT NULL REFERENCES campaign,
    version     int         NOT NULL,
    planned_at  timestamptz,
    started_at  timestamptz,
    ended_at    timestamptz,
    end_reason  run_end,
    note        text        NOT NULL DEFAULT '',
    FOREIGN KEY (campaign_id, version) REFERENCES campaign_version,
    UNIQUE (campaign_id, planned_at),
    CHECK ((ended_at IS NULL) = (end_reason IS NULL)),
    CHECK ((started_at IS NULL) = (end_reason IS NOT DISTINCT FROM 'skipped')),
    CHECK (ended_at >= started_at)
);
COMMENT ON TABLE  run IS 'One firing of a campaign''s schedule, or one start by a person.';
COMMENT ON COLUMN run.planned_at IS 'The planned time. Null: started by a person.';
COMMENT ON COLUMN run.started_at IS 'Null only when the firing was skipped; note says why.';
CREATE UNIQUE INDEX run_open ON run (campaign_id) WHERE ended_at IS NULL;
COMMENT ON INDEX run_open IS 'A campaign has at most one open run.';

CREATE TABLE suppression (
    phone    bigint      PRIMARY KEY CHECK (phone > 0),
    until    timestamptz,
    reason   text        NOT NULL,
    source   text        NOT NULL,
    added_at timestamptz NOT NULL
);
COMMENT ON TABLE  suppression IS 'Numbers that must not be called, over all accounts. Checked in the transaction of every intent.';
COMMENT ON COLUMN suppression.until IS 'Null: for ever.';

CREATE TABLE import (
    import_id   bigint      GENERATED ALWAYS AS IDENTITY,
    account_id  int         NOT NULL,
    campaign_id int         NOT NULL REFERENCES campaign,
    file        text        NOT NULL,
    sha256      bytea       NOT NULL CHECK (length(sha256) = 32),
    rows        int         NOT NULL,
    contacts    int         NOT NULL,
    duplicates  int         NOT NULL,
    rejects     int         NOT NULL,
    first_n     int,
    last_n      int,
    imported_at timestamptz NOT NULL,
    PRIMARY KEY (account_id, import_id),
    CHECK (rows = contacts + duplicates + rejects),
    CHECK (contacts = CASE WHEN first_n IS NULL THEN 0 ELSE last_n - first_n + 1 END)
);
COMMENT ON TABLE  import IS 'One row per contact file that was taken in, and what became of its rows.';
CREATE INDEX import_campaign ON import (account_id, campaign_id);

-- ---------------------------------------------------------------------------
-- The ledger: inserted in batches, never updated, never deleted from
-- ---------------------------------------------------------------------------

CREATE TABLE contact (
    account_id  int    NOT NULL,
    campaign_id int    NOT NULL,
    n           int    NOT NULL CHECK (n >= 1),
    phone       bigint NOT NULL CHECK (phone > 0),
    vars        jsonb  NOT NULL,
    line        int    NOT NULL,
    PRIMARY KEY (account_id, campaign_id, n),
    UNIQUE (account_id, campaign_id, phone)
);
COMMENT ON TABLE  contact IS 'One person of one campaign. Not touched after the import: how far it has come is in the rest of the ledger.';
COMMENT ON COLUMN contact.n IS 'Numbers the contacts of a campaign from 1 without a gap; the import row says which file a range came from.';
COMMENT ON COLUMN contact.phone IS 'National number without the trunk 0: 13800138000, or 57112345678 for 0571 12345678.';
COMMENT ON COLUMN contact.line IS 'Line of the file on which the record begins.';

CREATE TABLE batch (
    account_id  int         NOT NULL,
    seq         bigint      NOT NULL,
    campaign_id int         NOT NULL,
    node_id     int         NOT NULL,
    term        int         NOT NULL,
    at          timestamptz NOT NULL,
    upto_n      int         NOT NULL,
    intents     bigint      NOT NULL,
    suppressed  bigint      NOT NULL,
    PRIMARY KEY (account_id, seq)
);
COMMENT ON TABLE  batch IS 'One row per intent transaction: the cursor, the running totals, and by its key the proof that intents of an account happen one after the other. Old rows are deleted, never the last of a campaign.';
COMMENT ON COLUMN batch.upto_n IS 'Contacts up to this number are used up: they have an attempt, a skip or a due row.';
COMMENT ON COLUMN batch.intents IS 'Attempts of the campaign so far.';
CREATE INDEX batch_campaign ON batch (account_id, campaign_id, seq);

CREATE TABLE attempt (
    account_id  int         NOT NULL,
    attempt_id  bigint      NOT NULL,
    phone       bigint      NOT NULL,
    intent_at   timestamptz NOT NULL,
    send_by     timestamptz NOT NULL,
    campaign_id int         NOT NULL,
    n           int         NOT NULL,
    node_id     int         NOT NULL,
    try         smallint    NOT NULL,
    chance      smallint    NOT NULL,
    caller_id   text        NOT NULL,
    PRIMARY KEY (account_id, attempt_id),
    CHECK (attempt_id = ((campaign_id::bigint << 41) | (n::bigint << 10) | try)),
    CHECK (try BETWEEN 1 AND 1023 AND chance BETWEEN 1 AND try),
    CHECK (send_by > intent_at)
);
COMMENT ON TABLE  attempt IS 'One intent to call one contact, committed before its request: at most one request on the wire.';
COMMENT ON COLUMN attempt.attempt_id IS 'Campaign, contact and try in one number: the key forbids the same try twice. out_id(attempt_id) is the OutId under which the platform knows it.';
COMMENT ON COLUMN attempt.send_by IS 'Not a byte of the request is written after this.';
COMMENT ON COLUMN attempt.try IS 'Which attempt for its contact this is, throttled and unsent ones included.';
COMMENT ON COLUMN attempt.chance IS 'Which of the contact''s max_attempts this uses: throttled and unsent attempts give it back.';
CREATE INDEX attempt_phone ON attempt (account_id, phone, intent_at);
COMMENT ON INDEX attempt_phone IS 'Frequency caps and the one open attempt per number.';
CREATE INDEX attempt_intent ON attempt USING brin (intent_at);
COMMENT ON INDEX attempt_intent IS 'For the sweepers and a new holder: what was intended lately.';

CREATE TABLE response (
    account_id  int            NOT NULL,
    attempt_id  bigint         NOT NULL,
    class       response_class NOT NULL,
    counts      boolean        NOT NULL,
    sent_at     timestamptz,
    answered_at timestamptz    NOT NULL,
    code        text           NOT NULL,
    message     text,
    call_id     text,
    request_id  text,
    PRIMARY KEY (account_id, attempt_id),
    CHECK ((class = 'accepted') = (call_id IS NOT NULL)),
    CHECK (CASE class WHEN 'unsent' THEN sent_at IS NULL WHEN 'refused' THEN true ELSE sent_at IS NOT NULL END),
    CHECK (CASE class WHEN 'accepted' THEN counts WHEN 'unknown' THEN counts WHEN 'refused' THEN true ELSE NOT counts END)
);
COMMENT ON TABLE  response IS 'What came of the request of an attempt, written once by the node that made it. No row and send_by long past: that node is gone and nobody knows.';
COMMENT ON COLUMN response.class IS 'unsent: not a byte was written. unknown: bytes may have been written and no complete, valid, understood answer came; never dialled again by itself.';
COMMENT ON COLUMN response.counts IS 'Counts against the frequency caps: it may have rung, or the platform counted it.';
COMMENT ON COLUMN response.code IS 'The platform''s code; for unsent and unknown our own word for what happened.';
CREATE INDEX response_call_id ON response USING hash (call_id);

CREATE TABLE receipt (
    account_id  int         NOT NULL,
    attempt_id  bigint      NOT NULL,
    key         bytea       NOT NULL,
    received_at timestamptz NOT NULL,
    kind        text        NOT NULL,
    final       boolean     NOT NULL,
    raw         jsonb       NOT NULL,
    PRIMARY KEY (account_id, attempt_id, key)
);
COMMENT ON TABLE  receipt IS 'Every report of the platform on one of our attempts, each once, as it came.';
COMMENT ON COLUMN receipt.key IS 'Hash of message type, ids, leg, code and time: the platform promises no uniqueness of its own.';

CREATE TABLE outcome (
    account_id        int          NOT NULL,
    attempt_id        bigint       NOT NULL,
    outcome           call_outcome NOT NULL,
    call_id           text         NOT NULL,
    status_code       text         NOT NULL,
    status_msg        text         NOT NULL,
    smart_status_code text         NOT NULL,
    early_media_code  text         NOT NULL,
    hangup            text         NOT NULL,
    talk_s            int          NOT NULL CHECK (talk_s >= 0),
    rang_at           timestamptz,
    answered_at       timestamptz,
    ended_at          timestamptz,
    source            evidence     NOT NULL,
    recorded_at       timestamptz  NOT NULL,
    PRIMARY KEY (account_id, attempt_id)
);
CREATE INDEX outcome_recorded ON outcome USING brin (recorded_at);
COMMENT ON TABLE  outcome IS 'What became of the call: the first final report. A later one that differs is kept in receipt and noted as an incident.';
COMMENT ON COLUMN outcome.ended_at IS 'As the platform says, China time; null where it said nothing.';

CREATE TABLE lost (
    account_id int         NOT NULL,
    attempt_id bigint      NOT NULL,
    at         timestamptz NOT NULL,
    note       text        NOT NULL,
    PRIMARY KEY (account_id, attempt_id)
);
COMMENT ON TABLE lost IS 'Attempts that nobody could account for by their deadline. An outcome that comes later still ends them.';

CREATE TABLE skip (
    account_id  int         NOT NULL,
    campaign_id int         NOT NULL,
    n           int         NOT NULL,
    reason      skip_reason NOT NULL,
    at          timestamptz NOT NULL,
    PRIMARY KEY (account_id, campaign_id, n)
);
COMMENT ON TABLE skip IS 'Contacts that end without a further attempt.';

-- The three that are not append-only, all small: due and inbox hold only what waits,
-- progress only the last row of each counter after compaction.

CREATE TABLE due (
    account_id  int         NOT NULL,
    campaign_id int         NOT NULL,
    n           int         NOT NULL,
    try         smallint    NOT NULL CHECK (try BETWEEN 1 AND 1023),
    chance      smallint    NOT NULL CHECK (chance BETWEEN 1 AND try),
    due_at      timestamptz NOT NULL,
    reason      due_reason  NOT NULL,
    PRIMARY KEY (account_id, campaign_id, n)
);
COMMENT ON TABLE  due IS 'Contacts that wait for their next attempt. The intent that dials one deletes its row.';
COMMENT ON COLUMN due.try IS 'The number the next attempt will have.';
CREATE INDEX due_at ON due (account_id, campaign_id, due_at);

CREATE TABLE inbox (
    account_id  int         NOT NULL,
    push_id     bigint      GENERATED ALWAYS AS IDENTITY,
    received_at timestamptz NOT NULL,
    body        bytea       NOT NULL,
    PRIMARY KEY (account_id, push_id)
);
COMMENT ON TABLE inbox IS 'Receipts as they were pushed, committed before the push is answered, deleted when applied.';

CREATE TABLE stranger (
    account_id  int         NOT NULL,
    stranger_id bigint      GENERATED ALWAYS AS IDENTITY,
    received_at timestamptz NOT NULL,
    reason      text        NOT NULL,
    raw         bytea       NOT NULL,
    PRIMARY KEY (account_id, stranger_id)
);
COMMENT ON TABLE stranger IS 'Reports that name no attempt of ours (another system on the account, a forgery) or cannot be read. They change nothing.';

CREATE TABLE progress (
    account_id  int    NOT NULL,
    campaign_id int    NOT NULL,
    label       text   NOT NULL,
    node_id     int    NOT NULL,
    seq         bigint NOT NULL,
    total       bigint NOT NULL,
    PRIMARY KEY (account_id, campaign_id, label, node_id, seq)
);
COMMENT ON TABLE  progress IS 'Running totals, written in the transactions that they count; the last row of each key counts. Rows instead of an updated counter, because an updated row slows down under an old snapshot.';
COMMENT ON COLUMN progress.label IS 'response:<class>, outcome:<outcome>, lost, lost:redialled, lost:settled:<by what> and lost:redialled:<by what>, or contradiction:<which came second>: a definite no that has an outcome all the same.';

CREATE TABLE incident (
    incident_id bigint      PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    at          timestamptz NOT NULL,
    account_id  int         NOT NULL REFERENCES account,
    campaign_id int         REFERENCES campaign,
    attempt_id  bigint,
    kind        text        NOT NULL,
    detail      text        NOT NULL
);
COMMENT ON TABLE incident IS 'What a person should look at: somebody called twice, receipts that contradict each other, faults that paused a campaign.';

-- ---------------------------------------------------------------------------
-- What must never happen
-- ---------------------------------------------------------------------------

-- +goose StatementBegin
CREATE FUNCTION append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP;
END $$;
-- +goose StatementEnd
COMMENT ON FUNCTION append_only IS 'Nothing in the ledger goes back.';
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON contact  EXECUTE FUNCTION append_only();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON attempt  EXECUTE FUNCTION append_only();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON response EXECUTE FUNCTION append_only();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON receipt  EXECUTE FUNCTION append_only();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON outcome  EXECUTE FUNCTION append_only();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON lost     EXECUTE FUNCTION append_only();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON skip     EXECUTE FUNCTION append_only();

-- +goose StatementBegin
CREATE FUNCTION due_after_the_end() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    last bigint := (NEW.campaign_id::bigint << 41) | (NEW.n::bigint << 10) | (NEW.try - 1);
BEGIN
    IF NEW.try = 1 THEN
        RETURN NULL;  -- held back by a cap before its first attempt
    END IF;
    IF EXISTS (SELECT FROM response r WHERE r.account_id = NEW.account_id AND r.attempt_id = last AND r.class IN ('throttled', 'refused', 'unsent'))
       OR EXISTS (SELECT FROM outcome o WHERE o.account_id = NEW.account_id AND o.attempt_id = last)
       OR (NEW.reason = 'lost' AND EXISTS (SELECT FROM lost l WHERE l.account_id = NEW.account_id AND l.attempt_id = last)) THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION 'contact % of campaign % may have been called by attempt %: it cannot be pending again', NEW.n, NEW.campaign_id, last;
END $$;
-- +goose StatementEnd
COMMENT ON FUNCTION due_after_the_end IS 'A contact is pending again only after a definite no, an outcome, or a loss its campaign chose to redial.';
-- AFTER, so that it sees the response or outcome written by the same statement.
CREATE TRIGGER due_after_the_end AFTER INSERT OR UPDATE ON due FOR EACH ROW EXECUTE FUNCTION due_after_the_end();

-- ---------------------------------------------------------------------------
-- OutIds: the same keyed permutation as campaign.OutIDKey
-- ---------------------------------------------------------------------------

-- +goose StatementBegin
CREATE FUNCTION out_id_round(key bytea, i int, half bigint) RETURNS bigint LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    -- the low 40 bits of the first 8 bytes
    SELECT ('x' || encode(substr(sha256(key || set_byte('\x00', 0, i) || int8send(half)), 4, 5), 'hex'))::bit(40)::bigint
$$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION out_id(attempt_id bigint) RETURNS text LANGUAGE plpgsql STABLE STRICT SECURITY DEFINER SET search_path = public AS $$
DECLARE
    key      bytea  := (SELECT out_id_key FROM instance);
    alphabet text   := '0123456789ABCDEFGHJKMNPQRSTVWXYZ';
    l        bigint := attempt_id >> 26;
    r        bigint := (attempt_id & ((1 << 26) - 1)) << 11;
    t        bigint;
    s        text   := '';
BEGIN
    FOR i IN 0..5 LOOP
        IF i % 2 = 0 THEN
            l := l # (out_id_round(key, i, r) & ((1::bigint << 38) - 1));
        ELSE
            r := r # (out_id_round(key, i, l) & ((1::bigint << 37) - 1));
        END IF;
    END LOOP;
    FOR i IN 1..15 LOOP
        s := substr(alphabet, (r & 31)::int + 1, 1) || s;
        t := l & 31;
        l := l >> 5;
        r := (r >> 5) | (t << 32);
    END LOOP;
    RETURN s;
END $$;
-- +goose StatementEnd
COMMENT ON FUNCTION out_id IS 'The OutId under which the platform knows an attempt.';

-- +goose StatementBegin
CREATE FUNCTION attempt_id(out_id text) RETURNS bigint LANGUAGE plpgsql STABLE STRICT SECURITY DEFINER SET search_path = public AS $$
DECLARE
    key      bytea  := (SELECT out_id_key FROM instance);
    alphabet text   := '0123456789ABCDEFGHJKMNPQRSTVWXYZ';
    l        bigint := 0;
    r        bigint := 0;
    d        int;
BEGIN
    IF length(out_id) <> 15 THEN
        RETURN NULL;
    END IF;
    FOR i IN 1..15 LOOP
        d := strpos(alphabet, substr(out_id, i, 1)) - 1;
        IF d < 0 THEN
            RETURN NULL;
        END IF;
        l := ((l << 5) & ((1::bigint << 38) - 1)) | (r >> 32);
        r := ((r << 5) & ((1::bigint << 37) - 1)) | d;
    END LOOP;
    FOR i IN REVERSE 5..0 LOOP
        IF i % 2 = 0 THEN
            l := l # (out_id_round(key, i, r) & ((1::bigint << 38) - 1));
        ELSE
            r := r # (out_id_round(key, i, l) & ((1::bigint << 37) - 1));
        END IF;
    END LOOP;
    IF r & 2047 <> 0 THEN
        RETURN NULL;
    END IF;
    RETURN (l << 26) | (r >> 11);
END $$;
-- +goose StatementEnd
COMMENT ON FUNCTION attempt_id IS 'The attempt that an OutId names, or null if it is not one of ours.';

-- +goose StatementBegin
CREATE FUNCTION masked(phone bigint) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT CASE WHEN phone BETWEEN 10000000000 AND 19999999999
                THEN overlay(phone::text PLACING '****' FROM 4 FOR 4)
                ELSE regexp_replace('0' || phone, '^(0[12].|0[3-9]..)(.*)(....)$', '\1****\3') END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION masked IS 'A phone number as people may see it: 138****8000.';
