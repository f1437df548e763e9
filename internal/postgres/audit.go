package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"dialer/internal/campaign"
)

// Audit is what a look at the whole ledger, row by row, says about the promises.
type Audit struct {
	At        time.Time         `json:"at"`
	Campaigns []AuditedCampaign `json:"campaigns"`
	Accounts  []AuditedAccount  `json:"accounts"`
	// Doubts are the attempts that are unknown or lost, the oldest first.
	Doubts   []Doubt   `json:"in_doubt"`
	Findings []Finding `json:"findings"`
}

// AuditedCampaign is how far a campaign has come, by its running totals.
type AuditedCampaign struct {
	campaign.Progress
	Rows      int64            `json:"rows"` // read from its contact files
	InDoubt   int64            `json:"in_doubt"`
	Waiting   int64            `json:"waiting_for_a_person"` // of those: the contact has not gone on
	Settled   int64            `json:"settled_by_hand"`
	Incidents map[string]int64 `json:"incidents"` // by kind
	Runs      []AuditedRun     `json:"runs"`
	id        campaign.ID
}

// AuditedRun is one run of a campaign.
type AuditedRun struct {
	ID        campaign.RunID   `json:"run"`
	PlannedAt *time.Time       `json:"planned_at"` // nil: started by a person
	StartedAt *time.Time       `json:"started_at"` // nil: skipped
	EndedAt   *time.Time       `json:"ended_at"`   // nil: still open
	End       string           `json:"end_reason"`
	Note      string           `json:"note"`
	Attempts  map[string]int64 `json:"attempts"` // intended while it ran, by their state now
}

// AuditedAccount is the worst second of an account, by our own clocks at the first byte
// of each request.
type AuditedAccount struct {
	Account string     `json:"account"`
	Limit   int        `json:"limit"` // as its file says now
	Worst   int        `json:"worst_second"`
	WorstAt *time.Time `json:"worst_second_ends_at"`
	Nodes   int        `json:"nodes_in_that_second"`
	// OffBy is how far the times may be off: a node's own clock, or, where several
	// nodes sent in that second, what their clocks may differ.
	OffBy time.Duration `json:"times_off_by_ns"`
	// Guessed are requests of which only the intent's time is known. They are left out.
	Guessed int `json:"times_not_known"`
}

// Doubt is an attempt of which nobody knows what became.
type Doubt struct {
	OutID    string    `json:"out_id"`
	Campaign string    `json:"campaign"`
	Contact  int32     `json:"contact"`
	Phone    string    `json:"phone"` // masked
	State    string    `json:"state"` // unknown or lost
	IntentAt time.Time `json:"intent_at"`
	Node     string    `json:"node"`
	Why      string    `json:"why"`
	GoneOn   bool      `json:"contact_has_gone_on"`
}

// Finding is something that does not add up.
type Finding struct {
	Kind     string `json:"kind"`
	Account  string `json:"account,omitempty"`
	Campaign string `json:"campaign,omitempty"`
	Count    int64  `json:"count"`
	What     string `json:"what"`
	Contact  int32  `json:"contact,omitempty"` // the first
	OutID    string `json:"out_id,omitempty"`
}

const (
	ownClock     = time.Millisecond
	foreignClock = 5 * time.Second // more than this from the database's, and a node does not dial
)

// auditSettings let the planner see the values and read whole tables, and keep a million
// rows in memory.
const auditSettings = `
	SET LOCAL enable_seqscan = on;
	SET LOCAL plan_cache_mode = force_custom_plan;
	SET LOCAL work_mem = '128MB';
	SET LOCAL max_parallel_workers_per_gather = 0`

// auditor is one audit under way, in a transaction that sees one moment.
type auditor struct {
	tx       pgx.Tx
	key      campaign.OutIDKey
	audit    *Audit
	byID     map[campaign.ID]*AuditedCampaign
	accounts []int32
	from, to int64 // attempts of these campaigns
}

// Audit looks at one campaign, or at all of them if id is 0, as they are in one moment,
// while nodes may dial. It lists up to doubts attempts in doubt; 0 means all.
func (db *DB) Audit(ctx context.Context, id campaign.ID, doubts int) (*Audit, error) {
	var a *Audit
	err := pgx.BeginTxFunc(ctx, db.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, auditSettings, pgx.QueryExecModeSimpleProtocol); err != nil {
			return err
		}
		w := &auditor{tx: tx, key: db.key, audit: new(Audit), byID: make(map[campaign.ID]*AuditedCampaign), to: 1<<63 - 1}
		if id != 0 {
			w.from, w.to = int64(id)<<41, int64(id+1)<<41-1
		}
		a = w.audit
		for _, look := range []func(context.Context, campaign.ID) error{w.campaigns, w.imports, w.runs, w.ledger, w.strays, w.numbers, w.calls, w.incidents, w.seconds} {
			if err := look(ctx, id); err != nil {
				return err
			}
		}
		return w.doubts(ctx, doubts)
	})
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	return a, nil
}

// found adds a finding. example is its first attempt; with try 0 it is a contact, and
// 0 is neither.
func (w *auditor) found(kind string, id campaign.ID, count, example int64, format string, args ...any) {
	f := Finding{Kind: kind, Count: count, What: fmt.Sprintf(format, args...)}
	if c := w.byID[id]; c != nil {
		f.Account, f.Campaign = c.Account, c.Campaign
	} else if id != 0 {
		f.Campaign = fmt.Sprintf("number %d", id)
	}
	if attempt := campaign.AttemptID(example); example > 0 {
		f.Contact = attempt.Contact()
		if attempt.Try() > 0 {
			f.OutID = w.key.OutID(attempt)
		}
	}
	w.audit.Findings = append(w.audit.Findings, f)
}

func (w *auditor) campaigns(ctx context.Context, id campaign.ID) error {
	if err := w.tx.QueryRow(ctx, `SELECT now()`).Scan(&w.audit.At); err != nil {
		return err
	}
	rows, _ := w.tx.Query(ctx, `
		SELECT r.account, r.campaign, r.state::text, r.reason, r.imported, r.rejects, r.duplicates, r.pending, r.open, r.done, r.suppressed, r.cancelled, r.expired, r.unknown,
		       r.attempts, r.accepted, r.throttled, r.refused, r.unsent, r.doubtful, r.answered, r.campaign_id
		  FROM report.campaign r
		 WHERE $1 IN (0, r.campaign_id)
		 ORDER BY r.campaign`, id)
	var c AuditedCampaign
	p := &c.Progress
	_, err := pgx.ForEachRow(rows, []any{&p.Account, &p.Campaign, &p.State, &p.Reason, &p.Imported, &p.Rejects, &p.Duplicates, &p.Pending, &p.Open, &p.Done, &p.Suppressed,
		&p.Cancelled, &p.Expired, &p.Unknown, &p.Attempts, &p.Accepted, &p.Throttled, &p.Refused, &p.Unsent, &p.Doubtful, &p.Answered, &c.id}, func() error {
		w.audit.Campaigns = append(w.audit.Campaigns, c)
		return nil
	})
	for i := range w.audit.Campaigns {
		c := &w.audit.Campaigns[i]
		c.Incidents = make(map[string]int64)
		w.byID[c.id] = c
	}
	if err != nil {
		return err
	}
	// Of one campaign its own; of all also those that should have nothing.
	rows, _ = w.tx.Query(ctx, `SELECT account_id FROM account WHERE $1 = 0 OR account_id = (SELECT account_id FROM campaign WHERE campaign_id = $1)`, id)
	w.accounts, err = pgx.CollectRows(rows, pgx.RowTo[int32])
	return err
}

func (w *auditor) imports(ctx context.Context, id campaign.ID) error {
	rows, _ := w.tx.Query(ctx, `
		SELECT i.campaign_id, i.file, i.rows, i.contacts, i.duplicates, i.rejects,
		       (SELECT count(*) FROM contact k WHERE k.account_id = i.account_id AND k.campaign_id = i.campaign_id AND k.n BETWEEN i.first_n AND i.last_n)
		  FROM import i
		 WHERE $1 IN (0, i.campaign_id)
		 ORDER BY i.import_id`, id)
	var of campaign.ID
	var file string
	var read, contacts, duplicates, rejects, there int64
	_, err := pgx.ForEachRow(rows, []any{&of, &file, &read, &contacts, &duplicates, &rejects, &there}, func() error {
		if c := w.byID[of]; c != nil {
			c.Rows += read
		}
		if read != contacts+duplicates+rejects {
			w.found("import", of, read-contacts-duplicates-rejects, 0, "%s had %d rows, and became %d contacts, %d duplicates and %d rejects", file, read, contacts, duplicates, rejects)
		}
		if there != contacts {
			w.found("contacts_missing", of, contacts-there, 0, "%s brought %d contacts, and %d are there", file, contacts, there)
		}
		return nil
	})
	return err
}

func (w *auditor) runs(ctx context.Context, id campaign.ID) error {
	rows, _ := w.tx.Query(ctx, `
		SELECT campaign_id, run_id, planned_at, started_at, ended_at, coalesce(end_reason::text, ''), note
		  FROM run
		 WHERE $1 IN (0, campaign_id)
		 ORDER BY campaign_id, started_at, run_id`, id)
	var of campaign.ID
	var r AuditedRun
	_, err := pgx.ForEachRow(rows, []any{&of, &r.ID, &r.PlannedAt, &r.StartedAt, &r.EndedAt, &r.End, &r.Note}, func() error {
		r.Attempts = make(map[string]int64)
		w.byID[of].Runs = append(w.byID[of].Runs, r)
		return nil
	})
	return err
}

func (w *auditor) incidents(ctx context.Context, id campaign.ID) error {
	rows, _ := w.tx.Query(ctx, `
		SELECT campaign_id, kind, count(*), coalesce(min(attempt_id), 0)
		  FROM incident
		 WHERE campaign_id IS NOT NULL AND $1 IN (0, campaign_id)
		 GROUP BY campaign_id, kind
		 ORDER BY campaign_id, kind`, id)
	var of campaign.ID
	var kind string
	var n, example int64
	_, err := pgx.ForEachRow(rows, []any{&of, &kind, &n, &example}, func() error {
		if c := w.byID[of]; c != nil {
			c.Incidents[kind] = n
		}
		switch kind {
		case "two_calls", "refused_call", "settled_call":
			w.found("incident", of, n, example, "%d incidents %s: somebody may have been called twice", n, kind)
		}
		return nil
	})
	return err
}

// seconds finds the worst second of each account.
func (w *auditor) seconds(ctx context.Context, _ campaign.ID) error {
	rows, _ := w.tx.Query(ctx, `
		WITH sent AS (
			SELECT r.account_id, r.sent_at, a.node_id, r.sent_at = a.intent_at AS guessed
			  FROM response r
			  JOIN attempt a ON a.account_id = r.account_id AND a.attempt_id = r.attempt_id
			 WHERE r.account_id = ANY ($1::int[]) AND r.sent_at IS NOT NULL
		), worst AS (
			SELECT DISTINCT ON (account_id) account_id, sent_at, n
			  FROM (SELECT account_id, sent_at, count(*) OVER (PARTITION BY account_id ORDER BY sent_at RANGE BETWEEN interval '999.999 milliseconds' PRECEDING AND CURRENT ROW) AS n
			          FROM sent WHERE NOT guessed) s
			 ORDER BY account_id, n DESC, sent_at
		)
		SELECT a.name, (a.spec->>'limit')::int, coalesce(s.n, 0), s.sent_at,
		       (SELECT count(DISTINCT node_id) FROM sent t WHERE t.account_id = s.account_id AND NOT t.guessed AND t.sent_at > s.sent_at - interval '1 second' AND t.sent_at <= s.sent_at),
		       (SELECT count(*) FROM sent t WHERE t.account_id = a.account_id AND t.guessed)
		  FROM account a
		  LEFT JOIN worst s USING (account_id)
		 WHERE a.account_id = ANY ($1::int[])
		 ORDER BY a.name`, w.accounts)
	var s AuditedAccount
	_, err := pgx.ForEachRow(rows, []any{&s.Account, &s.Limit, &s.Worst, &s.WorstAt, &s.Nodes, &s.Guessed}, func() error {
		s.OffBy = ownClock
		if s.Nodes > 1 {
			s.OffBy = 2 * foreignClock
		}
		w.audit.Accounts = append(w.audit.Accounts, s)
		if s.Worst > s.Limit {
			w.audit.Findings = append(w.audit.Findings, Finding{Kind: "over_the_limit", Account: s.Account, Count: int64(s.Worst - s.Limit),
				What: fmt.Sprintf("%d requests within one second, and the limit is %d", s.Worst, s.Limit)})
		}
		return nil
	})
	return err
}

// doubts lists attempts in doubt, if ledger has counted any.
func (w *auditor) doubts(ctx context.Context, most int) error {
	var n int64
	for i := range w.audit.Campaigns {
		n += w.audit.Campaigns[i].InDoubt
	}
	if n == 0 {
		return nil
	}
	rows, _ := w.tx.Query(ctx, `
		SELECT out_id(d.attempt_id), c.name, d.n, masked(d.phone), CASE WHEN d.lost THEN 'lost' ELSE 'unknown' END, d.intent_at, coalesce(node.name, ''), d.why,
		       gone_on(d.account_id, d.attempt_id)
		  FROM (SELECT a.account_id, a.attempt_id, a.campaign_id, a.n, a.phone, a.intent_at, a.node_id, l.attempt_id IS NOT NULL AS lost,
		               CASE WHEN r.class IS NULL THEN 'its node recorded nothing: it may not have been sent'
		                    WHEN r.class = 'accepted' THEN 'accepted with CallId ' || r.call_id || ', and no receipt'
		                    ELSE 'no understood answer (' || r.code || '), and no receipt' END AS why
		          FROM attempt a
		          LEFT JOIN response   r ON r.account_id = a.account_id AND r.attempt_id = a.attempt_id
		          LEFT JOIN outcome    o ON o.account_id = a.account_id AND o.attempt_id = a.attempt_id
		          LEFT JOIN settlement s ON s.account_id = a.account_id AND s.attempt_id = a.attempt_id
		          LEFT JOIN lost       l ON l.account_id = a.account_id AND l.attempt_id = a.attempt_id
		         WHERE a.account_id = ANY ($1::int[]) AND a.attempt_id BETWEEN $2 AND $3
		           AND o.attempt_id IS NULL AND s.attempt_id IS NULL AND (r.class IS NULL OR r.class IN ('accepted', 'unknown'))
		           AND (l.attempt_id IS NOT NULL
		                OR (r.class = 'unknown' OR r.class IS NULL AND a.send_by < now() - interval '60 seconds')
		                   AND NOT EXISTS (SELECT FROM receipt e WHERE e.account_id = a.account_id AND e.attempt_id = a.attempt_id))
		         ORDER BY a.intent_at, a.attempt_id
		         LIMIT nullif($4, 0)) d
		  JOIN campaign c USING (campaign_id)
		  LEFT JOIN node USING (node_id)
		 ORDER BY d.intent_at, d.attempt_id`, w.accounts, w.from, w.to, most)
	var err error
	w.audit.Doubts, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Doubt])
	return err
}
