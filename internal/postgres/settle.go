package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"dialer/internal/campaign"
)

// NotCalled is the verdict of a person who knows that no call was made.
const NotCalled = "not_called"

// SettleAlone is how many attempts one person may settle at once. More need a second
// person: a whole campaign settled in error is a whole campaign called twice.
const SettleAlone = 50

// ErrSecondPerson says that a second person must look at so many attempts.
var ErrSecondPerson = fmt.Errorf("more than %d attempts at once need a second person, who is not the first", SettleAlone)

// Settlement is what a person says became of attempts in doubt.
type Settlement struct {
	OutIDs  []string
	Verdict string // NotCalled or one of campaign.Outcomes
	// Redial makes the contacts pending again. Otherwise they are done, whatever the
	// campaign's rules say of the outcome or of a loss.
	Redial         bool
	Reason, Person string
	Second         string // who looked at it, too; "" if nobody did
}

// Settled is an attempt that a person settled.
type Settled struct {
	OutID    string             `json:"out_id"`
	Campaign string             `json:"campaign"`
	Contact  int32              `json:"contact"`
	Phone    string             `json:"phone"` // masked
	Was      string             `json:"was"`   // its state before
	Verdict  string             `json:"verdict"`
	Redial   bool               `json:"redial"`
	Attempt  campaign.AttemptID `json:"-"`
}

// Refusals says, for each OutId that cannot be settled as asked, why not.
type Refusals []Refusal

// Refusal is one OutId of a Settlement, and why it cannot be settled as asked.
type Refusal struct {
	OutID string `json:"out_id"`
	Why   string `json:"why"`
}

func (r Refusals) Error() string {
	var b strings.Builder
	b.WriteString("nothing was settled: ")
	for i, one := range r {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(one.OutID + ": " + one.Why)
	}
	return b.String()
}

// doubt is what the ledger holds of an attempt that is to be settled.
type doubt struct {
	Settled
	account          campaign.AccountID
	chance           int
	most             int // the campaign's max_attempts
	cancelled        bool
	callID           string
	accepted, report bool // the platform took the request; it has reported on its call
	settledBy        string
	lost             bool
	waits            bool // its contact waits for the next attempt: its campaign redials
	goneOn           bool // its contact has had the next attempt, or is skipped
}

// Settle writes down what a person says became of attempts in doubt, those in state
// unknown or lost, all of them or, with an error that is Refusals, none. Evidence that
// comes later and says otherwise is an incident.
func (db *DB) Settle(ctx context.Context, s Settlement, at time.Time) ([]Settled, error) {
	switch {
	case s.Verdict != NotCalled && !slices.Contains(campaign.Outcomes, campaign.Outcome(s.Verdict)):
		return nil, fmt.Errorf("settle: %q is not a verdict", s.Verdict)
	case strings.TrimSpace(s.Reason) == "" || strings.TrimSpace(s.Person) == "":
		return nil, errors.New("settle: a reason and the name of a person are needed")
	case s.Second == s.Person, len(s.OutIDs) > SettleAlone && s.Second == "":
		return nil, ErrSecondPerson
	}
	var done []Settled
	err := pgx.BeginFunc(ctx, db.pool, func(tx pgx.Tx) error {
		done = nil
		ids := make([]campaign.AttemptID, 0, len(s.OutIDs))
		for _, name := range s.OutIDs {
			if id, ours := db.key.AttemptID(name); ours {
				ids = append(ids, id)
			}
		}
		if _, err := tx.Exec(ctx, lockCampaigns, campaignsOf(ids)); err != nil {
			return err
		}
		found, err := inDoubt(ctx, tx, ids)
		if err != nil {
			return err
		}
		var refused Refusals
		var doubts []*doubt
		seen := make(map[string]bool, len(s.OutIDs))
		for _, name := range s.OutIDs {
			if seen[name] {
				continue
			}
			seen[name] = true
			if why := found[name].refuses(s); why != "" {
				refused = append(refused, Refusal{name, why})
			} else {
				doubts = append(doubts, found[name])
			}
		}
		if len(refused) > 0 {
			return refused
		}
		for _, d := range doubts {
			d.Verdict, d.Redial = s.Verdict, s.Redial
			done = append(done, d.Settled)
		}
		return writeSettlements(ctx, tx, s, doubts, at)
	})
	if refused, ok := errors.AsType[Refusals](err); ok {
		return nil, refused
	}
	if err != nil {
		return nil, fmt.Errorf("settle %d attempts: %w", len(s.OutIDs), err)
	}
	return done, nil
}

// inDoubt returns what the ledger holds of the attempts, by OutId.
func inDoubt(ctx context.Context, tx pgx.Tx, ids []campaign.AttemptID) (map[string]*doubt, error) {
	rows, _ := tx.Query(ctx, `
		SELECT c.account_id, array_agg(id)
		  FROM unnest($1::bigint[]) id
		  JOIN campaign c ON c.campaign_id = (id >> 41)::int
		 GROUP BY c.account_id`, ints(ids))
	of := make(map[campaign.AccountID][]int64)
	var account campaign.AccountID
	var attempts []int64
	if _, err := pgx.ForEachRow(rows, []any{&account, &attempts}, func() error { of[account] = attempts; attempts = nil; return nil }); err != nil {
		return nil, err
	}
	found := make(map[string]*doubt)
	for account, attempts := range of {
		if err := inDoubtOf(ctx, tx, account, attempts, found); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// inDoubtOf adds the attempts of one account to found.
func inDoubtOf(ctx context.Context, tx pgx.Tx, account campaign.AccountID, ids []int64, found map[string]*doubt) error {
	rows, _ := tx.Query(ctx, `
		SELECT a.attempt_id, a.out_id, a.campaign, a.contact, a.phone, a.state::text, a.account_id, a.chance, coalesce((v.spec->>'max_attempts')::int, 1), c.state = 'cancelled',
		       coalesce(a.call_id, ''), a.call_id IS NOT NULL,
		       EXISTS (SELECT FROM receipt e WHERE e.account_id = $2 AND e.attempt_id = a.attempt_id),
		       coalesce(a.settled_by, ''),
		       EXISTS (SELECT FROM lost l WHERE l.account_id = $2 AND l.attempt_id = a.attempt_id),
		       EXISTS (SELECT FROM due d WHERE d.account_id = $2 AND d.campaign_id = a.campaign_id AND d.n = a.contact AND d.try = a.try + 1),
		       EXISTS (SELECT FROM attempt n WHERE n.account_id = $2 AND n.attempt_id = a.attempt_id + 1)
		       OR EXISTS (SELECT FROM skip s WHERE s.account_id = $2 AND s.campaign_id = a.campaign_id AND s.n = a.contact)
		  FROM unnest($1::bigint[]) i (id)
		  JOIN campaign c ON c.campaign_id = (i.id >> 41)::int
		  JOIN campaign_version v USING (campaign_id, version)
		  JOIN report.attempt a ON a.account_id = $2 AND a.attempt_id = i.id`, ids, account)
	var d doubt
	_, err := pgx.ForEachRow(rows, []any{&d.Attempt, &d.OutID, &d.Campaign, &d.Contact, &d.Phone, &d.Was, &d.account, &d.chance, &d.most, &d.cancelled,
		&d.callID, &d.accepted, &d.report, &d.settledBy, &d.lost, &d.waits, &d.goneOn}, func() error {
		found[d.OutID] = new(d)
		return nil
	})
	return err
}

// refuses says why the attempt cannot be settled so, or "".
func (d *doubt) refuses(s Settlement) string {
	switch {
	case d == nil:
		return "no attempt has this OutId"
	case d.settledBy != "":
		return "settled by " + d.settledBy + " already"
	case d.Was != string(campaign.Unknown) && d.Was != string(campaign.Lost):
		return "not in doubt: its state is " + d.Was
	case s.Verdict == NotCalled && d.accepted:
		return "the platform accepted it with CallId " + d.callID + ": give the outcome that its records show"
	case s.Verdict == NotCalled && d.report:
		return "the platform has reported on its call: give the outcome that its records show"
	case !s.Redial:
		return ""
	case d.goneOn:
		return "its contact has gone on already: leave --redial out"
	case d.cancelled:
		return "its campaign is cancelled: leave --redial out"
	case d.nextChance(s) > d.most:
		return fmt.Sprintf("its contact has had the %d of its max_attempts: leave --redial out", d.most)
	case d.Attempt.Try() >= campaign.MaxTries:
		return "its contact has had every try there is: leave --redial out"
	}
	return ""
}

// nextChance is what the next attempt uses: one that made no call gives its chance back.
func (d *doubt) nextChance(s Settlement) int {
	if s.Verdict == NotCalled {
		return d.chance
	}
	return d.chance + 1
}

// writeSettlements writes one row for each, its outcome, what comes next, and the
// totals, which belong to no node.
func writeSettlements(ctx context.Context, tx pgx.Tx, s Settlement, doubts []*doubt, at time.Time) error {
	b := new(pgx.Batch)
	for account, of := range byAccount(doubts) {
		ids := make([]int64, len(of))
		var dues, outcomes [][]any
		var w receiptRows
		for i, d := range of {
			ids[i] = int64(d.Attempt)
			if s.Verdict != NotCalled {
				outcomes = append(outcomes, []any{ids[i], d.callID})
				w.count(d.Attempt.Campaign(), "outcome:"+s.Verdict, 1)
			}
			switch {
			case !d.lost:
				w.count(d.Attempt.Campaign(), closed, 1)
			case !d.waits && !d.goneOn:
				w.count(d.Attempt.Campaign(), unknown, -1)
			}
			switch {
			case s.Redial:
				dues = append(dues, []any{int32(d.Attempt.Campaign()), d.Attempt.Contact(), int16(d.Attempt.Try() + 1), int16(d.nextChance(s))})
			case d.waits:
				b.Queue(`DELETE FROM due WHERE account_id = $1 AND campaign_id = $2 AND n = $3 AND try = $4`,
					account, d.Attempt.Campaign(), d.Attempt.Contact(), d.Attempt.Try()+1)
			}
		}
		b.Queue(`
			INSERT INTO settlement (account_id, attempt_id, verdict, redial, reason, person, second_person, settled_at)
			SELECT $1, id, $3::text::verdict, $4, $5, $6, $7, $8 FROM unnest($2::bigint[]) id`,
			account, ids, s.Verdict, s.Redial, text(s.Reason), text(s.Person), nullText(text(s.Second)), at)
		if len(outcomes) > 0 {
			b.Queue(`
				INSERT INTO outcome (account_id, recorded_at, outcome, source, status_code, status_msg, smart_status_code, early_media_code, hangup, talk_s, attempt_id, call_id)
				SELECT $1, $2, $3::text::call_outcome, 'person', '', '', '', '', '', 0, o.* FROM unnest($4::bigint[], $5::text[]) o`,
				append([]any{account, at, s.Verdict}, columns(outcomes)...)...)
		}
		if len(dues) > 0 {
			b.Queue(`
				INSERT INTO due (account_id, due_at, reason, campaign_id, n, try, chance)
				SELECT $1, $2, 'settled', d.* FROM unnest($3::int[], $4::int[], $5::smallint[], $6::smallint[]) d
				ON CONFLICT (account_id, campaign_id, n) DO UPDATE SET due_at = excluded.due_at, reason = excluded.reason, try = excluded.try, chance = excluded.chance`,
				append([]any{account, at}, columns(dues)...)...)
		}
		queueCounts(b, account, 0, w.counts)
	}
	return tx.SendBatch(ctx, b).Close()
}

func byAccount(doubts []*doubt) map[campaign.AccountID][]*doubt {
	by := make(map[campaign.AccountID][]*doubt)
	for _, d := range doubts {
		by[d.account] = append(by[d.account], d)
	}
	return by
}

// Doubtful returns the OutIds of the attempts of one contact that a person may settle.
func (db *DB) Doubtful(ctx context.Context, id campaign.ID, contact int32) ([]string, error) {
	rows, _ := db.pool.Query(ctx, `
		SELECT a.out_id
		  FROM report.attempt a
		 WHERE a.account_id = (SELECT account_id FROM campaign WHERE campaign_id = $1)
		   AND a.attempt_id BETWEEN ($1::bigint << 41) | ($2::bigint << 10) AND ($1::bigint << 41) | ($2::bigint << 10) | 1023
		   AND a.state IN ('unknown', 'lost')
		 ORDER BY a.attempt_id`, id, contact)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("attempts in doubt of contact %d: %w", contact, err)
	}
	return ids, nil
}
