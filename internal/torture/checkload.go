package torture

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5"

	"dialer/internal/campaign"
	"dialer/internal/simulator"
)

// createTables makes the tables of the schema witness that are filled from outside
// the database. They are unlogged: a crash may take them.
func (c *check) createTables(ctx context.Context) error {
	_, err := c.tx.Exec(ctx, `
		SET LOCAL work_mem = '64MB';
		SET LOCAL jit = off;
		SET LOCAL idle_in_transaction_session_timeout = 0; -- reading a long ledger on a busy machine is no reason to be put out
		DROP SCHEMA IF EXISTS witness CASCADE;
		CREATE SCHEMA witness;
		COMMENT ON SCHEMA witness IS 'What the simulator saw, beside our ledger; for the checker. Rebuilt at each check.';

		-- The simulator's ledger. attempt_id is what the OutId names, whether or not there
		-- is such an attempt; null: it is none of ours.
		CREATE UNLOGGED TABLE witness.request (
			line int, wall timestamptz, mono_us bigint, account text, action text, out_id text, attempt_id bigint, phone bigint, caller text,
			verdict text, code text, fault text, call_id text, second_id text, repeat boolean);
		CREATE UNLOGGED TABLE witness.call (
			account text, call_id text, out_id text, attempt_id bigint, phone bigint, outcome text, status_code text, smart_status_code text,
			early_media_code text, duration_s int, accepted_at timestamptz, ended_at timestamptz, lost boolean);
		CREATE UNLOGGED TABLE witness.item (
			push_id bigint, try int, pos int, wall timestamptz, account text, report text, call_id text, out_id text, attempt_id bigint,
			acked boolean, given_up boolean);
		CREATE UNLOGGED TABLE witness.query (
			wall timestamptz, account text, call_id text, out_id text, attempt_id bigint, verdict text);

		-- The dialer's own, turned into columns.
		CREATE UNLOGGED TABLE witness.aside (
			place text, call_id text, out_id text, report text);
		COMMENT ON TABLE witness.aside IS 'Reports that are stored and not receipts: still in the inbox, or strangers.';
		CREATE UNLOGGED TABLE witness.name (
			attempt_id bigint PRIMARY KEY, out_id text NOT NULL);

		-- The rules of the run.
		CREATE UNLOGGED TABLE witness.rules (
			quiescent boolean, torn boolean, clock interval, transit interval, commit interval, lost_after interval,
			incidents text[], deadline timestamptz, most_doubt int);
		CREATE UNLOGGED TABLE witness.rate (account text PRIMARY KEY, most int NOT NULL);
		CREATE UNLOGGED TABLE witness.pause (account_id int, campaign_id int, at timestamptz, resumed_at timestamptz);
		CREATE UNLOGGED TABLE witness.spec (
			campaign_id int, version int, max_attempts int, redial boolean, zone text, per_minute int, per_day int, per_30_days int,
			PRIMARY KEY (campaign_id, version));
		CREATE UNLOGGED TABLE witness.open (campaign_id int, version int, from_minute int, to_minute int);
		CREATE UNLOGGED TABLE witness.retry (campaign_id int, version int, outcome text, chance int, delay interval);
		CREATE UNLOGGED TABLE witness.firing (campaign_id int, planned_at timestamptz, said text);`, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return fmt.Errorf("make the schema witness: %w", err)
	}
	return nil
}

// loadLedger reads the simulator's ledger into its tables.
func (c *check) loadLedger(ctx context.Context, ledger io.Reader) error {
	var key campaign.OutIDKey
	var stored []byte
	if err := c.tx.QueryRow(ctx, `SELECT out_id_key FROM instance`).Scan(&stored); err != nil {
		return fmt.Errorf("read the key of the OutIds: %w", err)
	}
	copy(key[:], stored)
	if err := c.nameAttempts(ctx, key); err != nil {
		return err
	}
	requests := c.copier("request", "line", "wall", "mono_us", "account", "action", "out_id", "attempt_id", "phone", "caller",
		"verdict", "code", "fault", "call_id", "second_id", "repeat")
	calls := c.copier("call", "account", "call_id", "out_id", "attempt_id", "phone", "outcome", "status_code", "smart_status_code",
		"early_media_code", "duration_s", "accepted_at", "ended_at", "lost")
	items := c.copier("item", "push_id", "try", "pos", "wall", "account", "report", "call_id", "out_id", "attempt_id", "acked", "given_up")
	queries := c.copier("query", "wall", "account", "call_id", "out_id", "attempt_id", "verdict")
	line := 0
	for e, err := range simulator.ReadLedger(ledger) {
		if errors.Is(err, io.ErrUnexpectedEOF) && c.rules.TornLedger {
			break
		}
		if err != nil {
			return fmt.Errorf("the simulator's: %w", err)
		}
		line++
		switch e.Kind {
		case simulator.KindRequest:
			err = requests.add(ctx, line, e.Wall, e.MonoUS, e.Account, e.Action, e.OutID, named(key, e.OutID), phoneOf(e.Callee), e.Caller,
				e.Verdict, e.Code, e.Fault, e.CallID, e.SecondID, e.Repeat)
		case simulator.KindCall:
			err = calls.add(ctx, e.Account, e.CallID, e.OutID, named(key, e.OutID), phoneOf(e.Callee), e.Outcome, e.StatusCode, e.SmartStatusCode,
				e.EarlyMediaCode, e.DurationS, e.AcceptedAt, e.EndedAt, e.Lost)
		case simulator.KindPush:
			for pos, item := range e.Items {
				if err = items.add(ctx, e.PushID, e.Try, pos, e.Wall, e.Account, e.Report, item.CallID, item.OutID, named(key, item.OutID), e.Acked, e.GivenUp); err != nil {
					break
				}
			}
		case simulator.KindQuery:
			err = queries.add(ctx, e.Wall, e.Account, e.CallID, e.OutID, named(key, e.OutID), e.Verdict)
		}
		if err != nil {
			return err
		}
	}
	for _, table := range []*copier{requests, calls, items, queries} {
		if err := table.flush(ctx); err != nil {
			return err
		}
	}
	return nil
}

// nameAttempts computes the OutId of every attempt. The database could, with out_id,
// but it takes a thousand times longer.
func (c *check) nameAttempts(ctx context.Context, key campaign.OutIDKey) error {
	rows, _ := c.tx.Query(ctx, `SELECT attempt_id FROM attempt`)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return fmt.Errorf("read the attempts: %w", err)
	}
	names := c.copier("name", "attempt_id", "out_id")
	for _, id := range ids {
		if err := names.add(ctx, id, key.OutID(campaign.AttemptID(id))); err != nil {
			return err
		}
	}
	return names.flush(ctx)
}

func named(key campaign.OutIDKey, outID string) *int64 {
	id, ok := key.AttemptID(outID)
	if !ok {
		return nil
	}
	return new(int64(id))
}

// phoneOf is the number that was called, in the form of our ledger; null for none.
func phoneOf(callee string) *int64 {
	phone, err := campaign.ParsePhone(callee)
	if err != nil {
		return nil
	}
	return new(int64(phone))
}

// loadAside reads the reports that are stored, but not as receipts.
func (c *check) loadAside(ctx context.Context) error {
	rows, _ := c.tx.Query(ctx, `SELECT 'inbox', body FROM inbox UNION ALL SELECT 'stranger', raw FROM stranger`)
	aside := c.copier("aside", "place", "call_id", "out_id", "report")
	var place string
	var body []byte
	type report struct {
		CallID     string          `json:"call_id"`
		OutID      string          `json:"out_id"`
		StatusTime json.RawMessage `json:"status_time"`
		RecordFile json.RawMessage `json:"record_file"`
	}
	var found [][4]string
	_, err := pgx.ForEachRow(rows, []any{&place, &body}, func() error {
		var reports []report
		if body = bytes.TrimSpace(body); len(body) > 0 && body[0] == '[' {
			_ = json.Unmarshal(body, &reports) // what nobody can read names nothing
		} else {
			reports = make([]report, 1)
			_ = json.Unmarshal(body, &reports[0])
		}
		for _, r := range reports {
			kind := "VoiceReport"
			switch {
			case r.RecordFile != nil:
				kind = "VoiceRecordReport"
			case r.StatusTime != nil:
				kind = "VoiceCallReport"
			}
			found = append(found, [4]string{place, r.CallID, r.OutID, kind})
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read inbox and strangers: %w", err)
	}
	for _, r := range found {
		if err := aside.add(ctx, r[0], r[1], r[2], r[3]); err != nil {
			return err
		}
	}
	return aside.flush(ctx)
}

// copier fills one table of the schema witness in big pieces, so that a ledger of any
// size takes little memory.
type copier struct {
	tx      pgx.Tx
	table   string
	columns []string
	rows    [][]any
}

const copyAtOnce = 10_000

func (c *check) copier(table string, columns ...string) *copier {
	return &copier{tx: c.tx, table: table, columns: columns}
}

func (c *copier) add(ctx context.Context, row ...any) error {
	for i, v := range row {
		if t, ok := v.(time.Time); ok && t.IsZero() {
			row[i] = nil
		}
	}
	c.rows = append(c.rows, row)
	if len(c.rows) < copyAtOnce {
		return nil
	}
	return c.flush(ctx)
}

func (c *copier) flush(ctx context.Context) error {
	_, err := c.tx.CopyFrom(ctx, pgx.Identifier{"witness", c.table}, c.columns, pgx.CopyFromRows(c.rows))
	if err != nil {
		return fmt.Errorf("fill witness.%s: %w", c.table, err)
	}
	c.rows = c.rows[:0]
	return nil
}
