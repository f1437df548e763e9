package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"dialer/internal/campaign"
	"dialer/internal/postgres"
)

type auditCommand struct {
	Campaign string `arg:"" optional:"" help:"Only this campaign; none: all of them."`
	JSON     bool   `name:"json" help:"For machines; lists every attempt in doubt."`
}

// doubtsShown is how many attempts in doubt are listed for people.
const doubtsShown = 20

// errNotOK makes the exit code of an audit that found something: its line of verdict
// has said it all.
var errNotOK = errors.New("the audit found something that does not add up: see above")

func (c auditCommand) Run(ctx context.Context, a *app) error {
	return a.withDB(ctx, func(db *postgres.DB) error {
		var id campaign.ID
		if c.Campaign != "" {
			stored, err := db.Campaign(ctx, c.Campaign)
			if err != nil {
				return err
			}
			id = stored.ID
		}
		list := doubtsShown
		if c.JSON {
			list = 0
		}
		audit, err := db.Audit(ctx, id, list)
		if err != nil {
			return err
		}
		if c.JSON {
			err = json.NewEncoder(a.stdout).Encode(struct {
				OK      bool   `json:"ok"`
				Verdict string `json:"verdict"`
				*postgres.Audit
			}{len(audit.Findings) == 0, verdict(audit), audit})
		} else {
			err = printAudit(a.stdout, audit)
		}
		if err == nil && len(audit.Findings) > 0 {
			err = errNotOK
		}
		return err
	})
}

func printAudit(w io.Writer, audit *postgres.Audit) error {
	t := newTable(w, "campaign", "rows", "duplicates", "rejects", "imported", "pending", "open", "done", "suppressed", "cancelled", "expired", "unknown", "settled by hand")
	for _, c := range audit.Campaigns {
		t.row(c.Campaign, c.Rows, c.Duplicates, c.Rejects, c.Imported, c.Pending, c.Open, c.Done, c.Suppressed, c.Cancelled, c.Expired, c.Unknown, c.Settled)
	}
	if err := t.flush(); err != nil {
		return err
	}
	if err := printRuns(w, audit); err != nil {
		return err
	}
	for _, s := range audit.Accounts {
		fmt.Fprintf(w, "\naccount %s: %s\n", s.Account, worstSecond(s))
	}
	for _, c := range audit.Campaigns {
		for _, kind := range slices.Sorted(maps.Keys(c.Incidents)) {
			fmt.Fprintf(w, "\ncampaign %s: %d incidents %s, see report.incident\n", c.Campaign, c.Incidents[kind], kind)
		}
	}
	if err := printDoubts(w, audit); err != nil {
		return err
	}
	fmt.Fprintln(w)
	_, err := fmt.Fprintln(w, verdict(audit))
	return err
}

var attemptStates = []campaign.AttemptState{campaign.Ended, campaign.Accepted, campaign.Dialing, campaign.Throttled, campaign.Refused, campaign.Unsent, campaign.Unknown, campaign.Lost, campaign.Settled}

func printRuns(w io.Writer, audit *postgres.Audit) error {
	header := []string{"campaign", "run", "began", "ended", "how"}
	for _, state := range attemptStates {
		header = append(header, string(state))
	}
	t := newTable(w, header...)
	for _, c := range audit.Campaigns {
		for _, r := range c.Runs {
			how := strings.Trim(r.End+": "+r.Note, ": ")
			if r.End == "" {
				how = "open"
			}
			row := []any{c.Campaign, r.ID, clock(r.StartedAt), clock(r.EndedAt), how}
			for _, state := range attemptStates {
				row = append(row, r.Attempts[string(state)])
			}
			t.row(row...)
		}
	}
	if len(t.rows) == 1 {
		return nil
	}
	fmt.Fprintln(w)
	return t.flush()
}

// clock shows a moment as people in China read it.
func clock(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.In(time.FixedZone("CST", 8*3600)).Format("2006-01-02 15:04:05")
}

func worstSecond(s postgres.AuditedAccount) string {
	if s.WorstAt == nil {
		return fmt.Sprintf("no request was sent yet (limit %d)", s.Limit)
	}
	said := fmt.Sprintf("%d requests in the worst second (limit %d), which ended at %s; by our clock at the first byte, which may be %d ms off",
		s.Worst, s.Limit, s.WorstAt.In(time.FixedZone("CST", 8*3600)).Format("2006-01-02 15:04:05.000"), s.OffBy.Milliseconds())
	if s.Nodes > 1 {
		said += fmt.Sprintf(": %d nodes sent in it", s.Nodes)
	}
	if s.Guessed > 0 {
		said += fmt.Sprintf("; %d requests are left out, their moment is not known", s.Guessed)
	}
	return said
}

func printDoubts(w io.Writer, audit *postgres.Audit) error {
	if len(audit.Doubts) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	t := newTable(w, "OutId", "campaign", "contact", "phone", "state", "intended", "node", "why")
	for _, d := range audit.Doubts {
		why := d.Why
		if d.GoneOn {
			why += "; its contact is called again"
		}
		t.row(d.OutID, d.Campaign, d.Contact, d.Phone, d.State, clock(&d.IntentAt), d.Node, why)
	}
	if err := t.flush(); err != nil {
		return err
	}
	var all int64
	for _, c := range audit.Campaigns {
		all += c.InDoubt
	}
	if more := all - int64(len(audit.Doubts)); more > 0 {
		fmt.Fprintf(w, "and %s more: --json lists them all\n", thousands(more))
	}
	return nil
}

// verdict says in one line whether all adds up.
func verdict(audit *postgres.Audit) string {
	var contacts, pending, open, waiting, settled int64
	for _, c := range audit.Campaigns {
		contacts += c.Imported
		pending += c.Pending
		open += c.Open
		waiting += c.Waiting
		settled += c.Settled
	}
	var said []string
	if len(audit.Findings) > 0 {
		for _, f := range audit.Findings {
			said = append(said, finding(f))
		}
	} else {
		said = append(said, thousands(contacts)+" contacts", "nobody twice", "nobody forgotten")
		for _, s := range audit.Accounts {
			if s.WorstAt != nil {
				said = append(said, fmt.Sprintf("worst second %d of %d on %s", s.Worst, s.Limit, s.Account))
			}
		}
	}
	for _, n := range []struct {
		count int64
		what  string
	}{{pending, "pending"}, {open, "open"}, {settled, "settled by hand"}, {waiting, "wait for a person: dialer resolve"}} {
		if n.count > 0 {
			said = append(said, thousands(n.count)+" "+n.what)
		}
	}
	switch n := len(audit.Findings); n {
	case 0:
		return "OK: " + strings.Join(said, ", ")
	case 1:
		return "NOT OK: 1 finding: " + strings.Join(said, "; ")
	default:
		return fmt.Sprintf("NOT OK: %d findings: %s", n, strings.Join(said, "; "))
	}
}

func finding(f postgres.Finding) string {
	s := f.What
	switch {
	case f.Campaign != "":
		s = f.Campaign + ": " + s
	case f.Account != "":
		s = "account " + f.Account + ": " + s
	}
	switch {
	case f.OutID != "":
		s += fmt.Sprintf(" (first: contact %d, OutId %s)", f.Contact, f.OutID)
	case f.Contact > 0:
		s += fmt.Sprintf(" (first: contact %d)", f.Contact)
	}
	return s
}

// thousands writes 8216 as 8,216.
func thousands(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
