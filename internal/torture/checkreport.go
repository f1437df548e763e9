package torture

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5"
)

// Report is what Check found.
type Report struct {
	Checked  int       // invariants
	Findings []Finding // only those with violations
	Figures  Figures
	Doubts   Doubts
	Took     time.Duration
}

// Finding is an invariant that does not hold.
type Finding struct {
	Invariant
	Violations int
	Lines      []string // the first of them, in words, with numbers masked
	Took       time.Duration
}

// Figures are what a run came to.
type Figures struct {
	Contacts, Attempts, Responses, Outcomes, Lost int64 // in the dialer's ledger
	Requests, Calls, Pushes                       int64 // in the simulator's
	// Accounts are by the simulator's name, sorted.
	Accounts []AccountFigures
}

// AccountFigures are the requests of one account, as they arrived.
type AccountFigures struct {
	Name        string
	Requests    int64
	WorstSecond int // the most in any sliding second
	Limit       int
}

// OK tells whether every invariant holds.
func (r Report) OK() bool { return len(r.Findings) == 0 }

// Broken are the names of the invariants that do not hold.
func (r Report) Broken() []string {
	names := make([]string, len(r.Findings))
	for i, f := range r.Findings {
		names[i] = f.Name
	}
	return names
}

// Summary writes the report as a table for a terminal.
func (r Report) Summary(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	f := r.Figures
	fmt.Fprintf(t, "dialer\t%d contacts\t%d attempts\t%d responses\t%d outcomes\t%d lost\n", f.Contacts, f.Attempts, f.Responses, f.Outcomes, f.Lost)
	fmt.Fprintf(t, "simulator\t%d requests\t%d calls\t%d pushes\t\t\n", f.Requests, f.Calls, f.Pushes)
	for _, a := range f.Accounts {
		fmt.Fprintf(t, "account %s\t%d requests\tworst second %d of %d\t\t\t\n", a.Name, a.Requests, a.WorstSecond, a.Limit)
	}
	for _, d := range r.Doubts {
		fmt.Fprintf(t, "in doubt, node %d\t%d without a response\t%d unknown\t%d settled since\t%d lost\t\n", d.Node, d.Unanswered, d.Unknown, d.Settled, d.Lost)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	var b strings.Builder
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "\n%s does not hold: %s %d violations:\n", f.Name, f.Says, f.Violations)
		for _, line := range f.Lines {
			fmt.Fprintf(&b, "  %s\n", line)
		}
		if more := f.Violations - len(f.Lines); more > 0 {
			fmt.Fprintf(&b, "  and %d more\n", more)
		}
	}
	verdict := "all hold"
	if !r.OK() {
		verdict = fmt.Sprintf("%d do not hold", len(r.Findings))
	}
	fmt.Fprintf(&b, "%d invariants, %s (checked in %.1f s)\n", r.Checked, verdict, r.Took.Seconds())
	_, err := io.WriteString(w, b.String())
	return err
}

// NodeDoubt counts the attempts of one node that were or are in doubt.
type NodeDoubt struct {
	Node       int32
	Name       string
	Unanswered int // without a response: the node died, or the database never got it
	Unknown    int // with a response of unknown
	Settled    int // of these two, those that an outcome has ended since
	Lost       int // of these two, those that are lost
}

// Doubts are the attempts that were or are in doubt, by node. A node that was killed
// leaves no more of them than its last batch and its requests in flight.
type Doubts []NodeDoubt

// Total is how many attempts were in doubt at some time.
func (d Doubts) Total() int {
	total := 0
	for _, n := range d {
		total += n.Unanswered + n.Unknown
	}
	return total
}

// Of is what one node left.
func (d Doubts) Of(node int32) NodeDoubt {
	if i := slices.IndexFunc(d, func(n NodeDoubt) bool { return n.Node == node }); i >= 0 {
		return d[i]
	}
	return NodeDoubt{Node: node}
}

// Doubt counts the attempts that were or are in doubt. An attempt without a response
// is one once its send_by has passed.
func Doubt(ctx context.Context, db interface {
	Query(context.Context, string, ...any) (pgx.Rows, error)
}) (Doubts, error) {
	rows, _ := db.Query(ctx, `
		SELECT a.node_id, coalesce(max(n.name), ''), count(*) FILTER (WHERE r.class IS NULL), count(*) FILTER (WHERE r.class = 'unknown'),
		       count(o.attempt_id), count(*) FILTER (WHERE l.attempt_id IS NOT NULL AND o.attempt_id IS NULL)
		  FROM attempt a
		  LEFT JOIN node n USING (node_id)
		  LEFT JOIN response r ON r.account_id = a.account_id AND r.attempt_id = a.attempt_id
		  LEFT JOIN outcome  o ON o.account_id = a.account_id AND o.attempt_id = a.attempt_id
		  LEFT JOIN lost     l ON l.account_id = a.account_id AND l.attempt_id = a.attempt_id
		 WHERE r.class = 'unknown' OR (r.class IS NULL AND a.send_by < clock_timestamp())
		 GROUP BY a.node_id
		 ORDER BY a.node_id`)
	doubts, err := pgx.CollectRows(rows, pgx.RowToStructByPos[NodeDoubt])
	if err != nil {
		return nil, fmt.Errorf("count the attempts in doubt: %w", err)
	}
	return doubts, nil
}

func (c *check) figures(ctx context.Context, r *Report) error {
	f := &r.Figures
	err := c.tx.QueryRow(ctx, `
		SELECT (SELECT count(*) FROM contact), (SELECT count(*) FROM attempt), (SELECT count(*) FROM response),
		       (SELECT count(*) FROM outcome), (SELECT count(*) FROM lost),
		       (SELECT count(*) FROM witness.request), (SELECT count(*) FROM witness.call), (SELECT count(DISTINCT (push_id, try)) FROM witness.item)`).
		Scan(&f.Contacts, &f.Attempts, &f.Responses, &f.Outcomes, &f.Lost, &f.Requests, &f.Calls, &f.Pushes)
	if err != nil {
		return fmt.Errorf("count both ledgers: %w", err)
	}
	rows, _ := c.tx.Query(ctx, `
		SELECT s.account, count(*), max(s.within), coalesce(max(l.most), 0)
		  FROM witness.second s
		  LEFT JOIN witness.rate l USING (account)
		 GROUP BY s.account
		 ORDER BY s.account`)
	if f.Accounts, err = pgx.CollectRows(rows, pgx.RowToStructByPos[AccountFigures]); err != nil {
		return fmt.Errorf("worst second: %w", err)
	}
	return nil
}
