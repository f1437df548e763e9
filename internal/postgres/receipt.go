package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"dialer/internal/campaign"
)

// Push is a body that the platform pushed, receipts not yet read.
type Push struct {
	ReceivedAt time.Time
	Body       []byte
}

// StorePushes commits receipts as they were pushed, in their order: once it has returned
// they may be answered, because ApplyInbox will find them whatever happens.
func (db *DB) StorePushes(ctx context.Context, account campaign.AccountID, pushes []Push) error {
	bodies, at := make([][]byte, len(pushes)), make([]time.Time, len(pushes))
	for i, p := range pushes {
		bodies[i], at[i] = p.Body, p.ReceivedAt
	}
	_, err := db.pool.Exec(ctx, `
		INSERT INTO inbox (account_id, received_at, body)
		SELECT $1, received_at, body
		  FROM unnest($2::timestamptz[], $3::bytea[]) WITH ORDINALITY p (received_at, body, i)
		 ORDER BY i`, account, at, bodies)
	if err != nil {
		return fmt.Errorf("store %d pushes: %w", len(pushes), err)
	}
	return nil
}

// ApplyInbox takes up to limit stored pushes of an account, reads them with parse,
// and writes what they say in one transaction: receipts, outcomes, the next attempt
// where the campaign's rules want one, strangers and incidents. It returns the
// attempts that have an outcome now, and how many pushes it took. Any number of nodes
// may call it at once: each push is applied once. A report that the database refuses
// to store is put aside, so that it does not hold up the others.
func (db *DB) ApplyInbox(ctx context.Context, account campaign.AccountID, node campaign.NodeID, limit int, at time.Time,
	parse func(body []byte) []campaign.Receipt) (settled []campaign.AttemptID, pushes int, err error) {
	apply := func(limit int, applyAll func(context.Context, pgx.Tx, campaign.AccountID, campaign.NodeID, []campaign.Receipt, string, time.Time) ([]campaign.AttemptID, error)) error {
		return pgx.BeginFunc(ctx, db.pool, func(tx pgx.Tx) error {
			settled, pushes = nil, 0
			rows, _ := tx.Query(ctx, `
				DELETE FROM inbox
				 WHERE account_id = $1 AND push_id IN (
				       SELECT push_id FROM inbox WHERE account_id = $1 ORDER BY push_id LIMIT $2 FOR UPDATE SKIP LOCKED)
				RETURNING body`, account, limit)
			bodies, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
			if err != nil {
				return err
			}
			pushes = len(bodies)
			var receipts []campaign.Receipt
			for _, body := range bodies {
				receipts = append(receipts, parse(body)...)
			}
			settled, err = applyAll(ctx, tx, account, node, receipts, "push", at)
			return err
		})
	}
	err = apply(limit, applyReceipts)
	if err != nil && !IsTransient(err) && ctx.Err() == nil {
		err = apply(1, applySingly)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("apply receipts of account %d: %w", account, err)
	}
	return settled, pushes, nil
}

// applySingly applies each receipt in a savepoint of its own, and puts aside those
// that the database refuses.
func applySingly(ctx context.Context, tx pgx.Tx, account campaign.AccountID, node campaign.NodeID, receipts []campaign.Receipt, source string, at time.Time) ([]campaign.AttemptID, error) {
	var settled []campaign.AttemptID
	for _, r := range receipts {
		var ids []campaign.AttemptID
		err := pgx.BeginFunc(ctx, tx, func(sp pgx.Tx) (err error) {
			ids, err = applyReceipts(ctx, sp, account, node, []campaign.Receipt{r}, source, at)
			return err
		})
		if err != nil && !IsTransient(err) {
			var w receiptRows
			ids = nil
			w.strange(r, "it cannot be stored: "+err.Error())
			err = w.write(ctx, tx, account, node, at)
		}
		if err != nil {
			return nil, err
		}
		settled = append(settled, ids...)
	}
	return settled, nil
}

// ApplyAnswer writes what the platform said when it was asked about a call.
func (db *DB) ApplyAnswer(ctx context.Context, account campaign.AccountID, node campaign.NodeID, r campaign.Receipt, at time.Time) error {
	err := pgx.BeginFunc(ctx, db.pool, func(tx pgx.Tx) error {
		_, err := applyReceipts(ctx, tx, account, node, []campaign.Receipt{r}, "query", at)
		return err
	})
	if err != nil {
		return fmt.Errorf("apply the answer about a call: %w", err)
	}
	return nil
}

// known is what the ledger holds of an attempt that a receipt names.
type known struct {
	intentAt time.Time
	chance   int
	class    string
	callID   string
	outcome  string
	ended    string // the CallId of the outcome
	byPerson bool   // the outcome is what a person said
	verdict  string // of a person; "" if nobody settled it
	person   string
	wasLost  bool
	goneOn   bool // its contact waits for the next attempt, has had it, or is skipped
}

// refused tells whether the response was a definite no.
func (k *known) refused() bool {
	return k.class == "throttled" || k.class == "refused" || k.class == "unsent"
}

func applyReceipts(ctx context.Context, tx pgx.Tx, account campaign.AccountID, node campaign.NodeID, receipts []campaign.Receipt, source string, at time.Time) ([]campaign.AttemptID, error) {
	if len(receipts) == 0 {
		return nil, nil
	}
	if err := findByCallID(ctx, tx, account, receipts); err != nil {
		return nil, err
	}
	// Two nodes that apply receipts of one campaign must see each other's outcomes.
	ids := make([]campaign.AttemptID, 0, len(receipts))
	for _, r := range receipts {
		if r.Attempt != 0 {
			ids = append(ids, r.Attempt)
		}
	}
	if _, err := tx.Exec(ctx, lockCampaigns, campaignsOf(ids)); err != nil {
		return nil, err
	}
	ledger, err := lookUp(ctx, tx, account, ids)
	if err != nil {
		return nil, err
	}
	policies, err := policiesOf(ctx, tx, campaignsOf(ids))
	if err != nil {
		return nil, err
	}
	forgotten, err := forgottenBy(ctx, tx, account, ids, ledger)
	if err != nil {
		return nil, err
	}

	// A node that slept since it read its clock does not write a call's end before its
	// beginning.
	for _, k := range ledger {
		if k.intentAt.After(at) {
			at = k.intentAt
		}
	}
	var w receiptRows
	for _, r := range receipts {
		k, ours := ledger[r.Attempt]
		switch {
		case r.Unreadable != "":
			w.strange(r, r.Unreadable)
			continue
		case forgotten[r.Attempt]:
			w.strange(r, forgottenAttempt+strconv.FormatInt(int64(r.Attempt), 10))
			w.forgotten = append(w.forgotten, r.Attempt)
			continue
		case !ours:
			w.strange(r, "it names no attempt of ours")
			continue
		}
		if k.callID != "" && r.CallID != "" && r.CallID != k.callID {
			w.incident(r.Attempt, "two_calls", fmt.Sprintf("response with CallId %s, receipt with CallId %s", k.callID, r.CallID))
		} else if k.refused() {
			w.incident(r.Attempt, "refused_call", fmt.Sprintf("the request was %s, and yet there is a receipt with CallId %s", k.class, r.CallID))
		} else if k.verdict == NotCalled {
			w.incident(r.Attempt, "settled_call", fmt.Sprintf("%s settled it as not called, and yet there is a receipt with CallId %s", k.person, r.CallID))
		}
		w.keep(r)
		if !r.Final {
			continue
		}
		if k.outcome != "" {
			// A person may not have known the CallId.
			if r.CallID != k.ended && !k.byPerson {
				w.incident(r.Attempt, "two_calls", fmt.Sprintf("outcome with CallId %s, receipt with CallId %s", k.ended, r.CallID))
			} else if string(r.Outcome) != k.outcome {
				w.incident(r.Attempt, "two_outcomes", fmt.Sprintf("outcome %s, receipt says %s", k.outcome, r.Outcome))
			}
			continue
		}
		k.outcome, k.ended = string(r.Outcome), r.CallID
		w.end(r, source)
		switch {
		case k.refused() || k.verdict != "": // it was over
		case !k.wasLost:
			w.count(r.Attempt.Campaign(), closed, 1)
		case !k.goneOn:
			w.count(r.Attempt.Campaign(), unknown, -1)
		}
		// What contradicts a definite no or a person is for a person to decide.
		if p, ok := policies[r.Attempt.Campaign()]; ok && !k.goneOn && !k.refused() && k.verdict == "" {
			w.again(r, k.chance, p, at)
		}
	}
	return w.attempts, w.write(ctx, tx, account, node, at)
}

// forgottenAttempt is why a report is put aside whose OutId is that of a contact here,
// and whose attempt is not: only this database, as it was once, can have named it. The
// attempt's number follows.
const forgottenAttempt = "the database has forgotten its attempt "

// forgottenBy returns those of the attempts that are missing although their contacts
// are here.
func forgottenBy(ctx context.Context, tx pgx.Tx, account campaign.AccountID, ids []campaign.AttemptID, ledger map[campaign.AttemptID]*known) (map[campaign.AttemptID]bool, error) {
	var missing []campaign.AttemptID
	for _, id := range ids {
		if ledger[id] == nil {
			missing = append(missing, id)
		}
	}
	if len(missing) == 0 {
		return nil, nil
	}
	rows, _ := tx.Query(ctx, `
		SELECT id FROM unnest($2::bigint[]) id
		  JOIN contact c ON c.account_id = $1 AND c.campaign_id = (id >> 41)::int AND c.n = ((id >> 10) & 2147483647)::int`, account, ints(missing))
	forgotten := make(map[campaign.AttemptID]bool)
	var id campaign.AttemptID
	_, err := pgx.ForEachRow(rows, []any{&id}, func() error { forgotten[id] = true; return nil })
	return forgotten, err
}

// findByCallID names the attempt of receipts without an OutId of ours, where their
// CallId is known.
func findByCallID(ctx context.Context, tx pgx.Tx, account campaign.AccountID, receipts []campaign.Receipt) error {
	var calls []string
	for _, r := range receipts {
		if r.Attempt == 0 && r.CallID != "" && r.Unreadable == "" {
			calls = append(calls, text(r.CallID))
		}
	}
	if len(calls) == 0 {
		return nil
	}
	rows, _ := tx.Query(ctx, `SELECT call_id, attempt_id FROM response WHERE account_id = $1 AND call_id = ANY ($2)`, account, calls)
	found := make(map[string]campaign.AttemptID)
	var call string
	var id campaign.AttemptID
	if _, err := pgx.ForEachRow(rows, []any{&call, &id}, func() error { found[call] = id; return nil }); err != nil {
		return err
	}
	for i := range receipts {
		if receipts[i].Attempt == 0 && receipts[i].Unreadable == "" {
			receipts[i].Attempt = found[receipts[i].CallID]
		}
	}
	return nil
}

func campaignsOf(attempts []campaign.AttemptID) []int64 {
	seen := make(map[campaign.ID]bool)
	var ids []int64
	for _, id := range attempts {
		if c := id.Campaign(); !seen[c] {
			seen[c] = true
			ids = append(ids, int64(c))
		}
	}
	return ids
}

func lookUp(ctx context.Context, tx pgx.Tx, account campaign.AccountID, ids []campaign.AttemptID) (map[campaign.AttemptID]*known, error) {
	rows, _ := tx.Query(ctx, `
		SELECT a.attempt_id, a.intent_at, a.chance, coalesce(r.class::text, ''), coalesce(r.call_id, ''), coalesce(o.outcome::text, ''), coalesce(o.call_id, ''),
		       coalesce(o.source = 'person', false), coalesce(s.verdict::text, ''), coalesce(s.person, ''), l.attempt_id IS NOT NULL,
		       CASE WHEN l.attempt_id IS NOT NULL THEN gone_on($1, a.attempt_id) ELSE false END
		  FROM (SELECT DISTINCT id FROM unnest($2::bigint[]) id) i
		 CROSS JOIN LATERAL (SELECT * FROM attempt    a WHERE a.account_id = $1 AND a.attempt_id = i.id LIMIT 1) a
		  LEFT JOIN LATERAL (SELECT * FROM response   r WHERE r.account_id = $1 AND r.attempt_id = i.id LIMIT 1) r ON true
		  LEFT JOIN LATERAL (SELECT * FROM outcome    o WHERE o.account_id = $1 AND o.attempt_id = i.id LIMIT 1) o ON true
		  LEFT JOIN LATERAL (SELECT * FROM settlement s WHERE s.account_id = $1 AND s.attempt_id = i.id LIMIT 1) s ON true
		  LEFT JOIN LATERAL (SELECT * FROM lost       l WHERE l.account_id = $1 AND l.attempt_id = i.id LIMIT 1) l ON true`, account, ints(ids))
	ledger := make(map[campaign.AttemptID]*known)
	var id campaign.AttemptID
	var k known
	_, err := pgx.ForEachRow(rows, []any{&id, &k.intentAt, &k.chance, &k.class, &k.callID, &k.outcome, &k.ended, &k.byPerson, &k.verdict, &k.person, &k.wasLost, &k.goneOn}, func() error {
		ledger[id] = new(k)
		return nil
	})
	return ledger, err
}

// policy is what a campaign does after an outcome.
type policy struct {
	spec   campaign.Campaign
	active bool
}

func policiesOf(ctx context.Context, tx pgx.Tx, campaigns []int64) (map[campaign.ID]policy, error) {
	rows, _ := tx.Query(ctx, `
		SELECT c.campaign_id, v.spec, c.state <> 'cancelled'
		  FROM campaign c
		  JOIN campaign_version v USING (campaign_id, version)
		 WHERE c.campaign_id = ANY ($1::int[])`, campaigns)
	policies := make(map[campaign.ID]policy)
	var id campaign.ID
	var spec []byte
	var p policy
	_, err := pgx.ForEachRow(rows, []any{&id, &spec, &p.active}, func() error {
		p.spec = campaign.Campaign{}
		if err := json.Unmarshal(spec, &p.spec); err != nil {
			return fmt.Errorf("campaign %d: stored file: %w", id, err)
		}
		policies[id] = p
		return nil
	})
	return policies, err
}
