// Package torture proves the promise of the dialer under faults. Its checker lays two
// ledgers side by side, the dialer's and that of the simulated platform, which knows
// what truly happened, and looks for violations of the invariants that make up
// "nobody called twice, nobody forgotten".
package torture

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Beginner is a database to be checked: a pool, a connection or a transaction.
type Beginner interface {
	Begin(context.Context) (pgx.Tx, error)
}

// Rules say what a run allowed, where its own tables do not say it. The zero value
// checks a run without pauses, incidents and deadline, whatever state it is in.
type Rules struct {
	// Quiescent says that nothing is under way any more: no process dials, every report
	// that will be pushed has been, and LostAfter has passed for every attempt.
	Quiescent bool
	// TornLedger permits that the simulator was killed: the last line of its ledger may
	// lack its end, and the last entries may be missing.
	TornLedger bool
	// Limits are the most requests in any sliding second, by the simulator's name of the
	// account. An account that is not named has the limit of its file.
	Limits map[string]int
	// Clock is the most by which the clocks of simulator, nodes and database differ;
	// 0 = 50 ms, for one machine.
	Clock time.Duration
	// Transit is the longest that a request may take from its first byte to its arrival;
	// 0 = 10 s, the time-out of a request.
	Transit time.Duration
	// Commit is the longest that a change took from its time stamp to its commit;
	// 0 = 1 s. A slow database needs more.
	Commit time.Duration
	// LostAfter is the nodes' setting; 0: an attempt is not lost before its send_by.
	LostAfter time.Duration
	// Pauses are the moments at which a pause was acknowledged to the person who asked.
	Pauses []Pause
	// Incidents are the kinds of incidents that the run's faults may well cause.
	Incidents []string
	// Deadline, if it is set, is when everything had to be final, counted from the last
	// fault (liveness).
	Deadline time.Time
	// MostDoubt, if it is set, bounds the attempts in doubt: see Doubts.Total.
	MostDoubt *int
	// Lines is how many violations of one invariant are returned word by word; 0 = 20.
	Lines int
}

// Pause is one pause of a campaign, or of a whole account.
type Pause struct {
	Campaign  string // empty: the account's
	Account   string // only without Campaign
	At        time.Time
	ResumedAt time.Time // when the resumption was asked for; zero: never
}

// Invariant is one sentence about both ledgers, and the queries for its violations.
type Invariant struct {
	Name string // as in I2, I2b
	Says string
	// queries return one text for each violation.
	queries []string
}

// Invariants returns everything that Check looks at, in its order.
func Invariants() []Invariant {
	var all []Invariant
	for _, part := range [][]Invariant{requestInvariants, contactInvariants, truthInvariants, orderInvariants, figureInvariants} {
		all = append(all, part...)
	}
	return all
}

// Check loads the simulator's ledger into the schema witness of the dialer's own
// database, beside the dialer's ledger, and returns every violation of an invariant.
// The schema is built anew each time and left for a person to look at. An error means
// that the check could not be made; violations are not an error.
//
// Nothing should dial meanwhile: what happens between the reading of the two ledgers
// looks like a violation.
func Check(ctx context.Context, db Beginner, ledger io.Reader, rules Rules) (Report, error) {
	began := time.Now()
	rules = rules.withDefaults()
	var report Report
	err := pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		report = Report{}
		c := &check{tx: tx, rules: rules}
		for _, step := range []func(context.Context) error{
			c.createTables, func(ctx context.Context) error { return c.loadLedger(ctx, ledger) }, c.loadAside,
			c.loadRules, c.loadFirings, c.derive,
		} {
			if err := step(ctx); err != nil {
				return err
			}
		}
		for _, invariant := range Invariants() {
			finding, err := c.find(ctx, invariant)
			if err != nil {
				return err
			}
			report.Checked++
			if finding.Violations > 0 {
				report.Findings = append(report.Findings, finding)
			}
		}
		if err := c.figures(ctx, &report); err != nil {
			return err
		}
		var err error
		report.Doubts, err = Doubt(ctx, tx)
		return err
	})
	if err != nil {
		return Report{}, fmt.Errorf("check both ledgers: %w", err)
	}
	report.Took = time.Since(began)
	return report, nil
}

func (r Rules) withDefaults() Rules {
	for _, d := range []struct {
		value *time.Duration
		unset time.Duration
	}{
		{&r.Clock, 50 * time.Millisecond},
		{&r.Transit, 10 * time.Second},
		{&r.Commit, time.Second},
	} {
		if *d.value == 0 {
			*d.value = d.unset
		}
	}
	if r.Lines == 0 {
		r.Lines = 20
	}
	return r
}

// check is one Check under way.
type check struct {
	tx    pgx.Tx
	rules Rules
}

// find runs the query of an invariant.
func (c *check) find(ctx context.Context, invariant Invariant) (Finding, error) {
	f := Finding{Invariant: invariant}
	began := time.Now()
	rows, err := c.tx.Query(ctx, `
		WITH v (line) AS MATERIALIZED (`+strings.Join(invariant.queries, "\nUNION ALL\n")+`)
		SELECT line, count(*) OVER () FROM v LIMIT `+fmt.Sprint(c.rules.Lines), pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return f, fmt.Errorf("%s: %w", invariant.Name, err)
	}
	var line string
	_, err = pgx.ForEachRow(rows, []any{&line, &f.Violations}, func() error {
		f.Lines = append(f.Lines, line)
		return nil
	})
	if err != nil {
		return f, fmt.Errorf("%s: %w", invariant.Name, err)
	}
	f.Took = time.Since(began)
	return f, nil
}
