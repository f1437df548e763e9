package torture

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestGoodHistory(t *testing.T) {
	h := goodHistory(t)
	// Twice: the schema of the first check must not be in the way of the second.
	for range 2 {
		r, err := Check(t.Context(), h.db.Pool(), written(t, h.seen), h.rules())
		h.must(err)
		if !r.OK() {
			t.Errorf("a good history breaks %v", r.Broken())
			h.must(r.Summary(t.Output()))
		}
		if want := len(Invariants()); r.Checked != want {
			t.Errorf("%d invariants were looked at, want %d", r.Checked, want)
		}
		want := Figures{
			Contacts: 17, Attempts: 22, Responses: 21, Outcomes: 13, Lost: 4, Requests: 19, Calls: 13, Pushes: 14,
			Accounts: []AccountFigures{{Name: "main", Requests: 19, WorstSecond: 11, Limit: 12}},
		}
		if got := r.Figures; !reflect.DeepEqual(got, want) {
			t.Errorf("figures: got %+v, want %+v", got, want)
		}
	}
}

func TestDoubt(t *testing.T) {
	h := goodHistory(t)
	doubts, err := Doubt(t.Context(), h.db.Pool())
	h.must(err)
	node := int32(h.lease.Node)
	want := NodeDoubt{Node: node, Name: "first", Unanswered: 1, Unknown: 4, Settled: 2, Lost: 3}
	if got := doubts.Of(node); got != want {
		t.Errorf("node %d: got %+v, want %+v", node, got, want)
	}
	if got := doubts.Of(node + 1); got != (NodeDoubt{Node: node + 1}) {
		t.Errorf("a node that dialled nothing: got %+v", got)
	}
	if got := doubts.Total(); got != 5 {
		t.Errorf("in all: got %d, want 5", got)
	}
}

// A simulator that was killed leaves half a line, and may not have written its last
// entries: only who says so gets a check.
func TestTornLedger(t *testing.T) {
	h := goodHistory(t)
	whole := written(t, h.seen).Bytes()
	torn := whole[:bytes.LastIndexByte(whole[:len(whole)-1], '\n')+20]
	rules := h.rules()
	_, err := Check(t.Context(), h.db.Pool(), bytes.NewReader(torn), rules)
	if err == nil || !strings.Contains(err.Error(), "line") {
		t.Errorf("got %v, want an error that names the line", err)
	}
	rules.TornLedger = true
	r, err := Check(t.Context(), h.db.Pool(), bytes.NewReader(torn), rules)
	h.must(err)
	if !r.OK() {
		t.Errorf("without the last push: %v", r.Broken())
	}
	// The last call, its end and its report are all missing.
	r, err = Check(t.Context(), h.db.Pool(), written(t, h.seen[:len(h.seen)-3]), rules)
	h.must(err)
	if !r.OK() {
		t.Errorf("without the last call: %v", r.Broken())
		h.must(r.Summary(t.Output()))
	}
	// A line in the middle that is none is never permitted.
	broken := append([]byte("{\n"), whole...)
	if _, err := Check(t.Context(), h.db.Pool(), bytes.NewReader(broken), rules); err == nil {
		t.Error("a line that is no entry was passed over")
	}
}

// While a run goes on, attempts under way are no violation.
func TestRestlessRun(t *testing.T) {
	h := goodHistory(t)
	rules := h.rules()
	rules.Quiescent = false
	bad := badHistory{
		sql:   `DELETE FROM lost WHERE attempt_id = r9.1; INSERT INTO progress SELECT account_id, campaign_id, label, 99, 1, -1 FROM attempt, unnest('{closed,unknown}'::text[]) label WHERE attempt_id = r9.1`,
		rules: func(r *Rules) { r.Quiescent = false },
	}
	if r := h.spoil(t, bad); !r.OK() {
		t.Errorf("got %v", r.Broken())
		h.must(r.Summary(t.Output()))
	}
}

func TestRules(t *testing.T) {
	h := goodHistory(t)
	incident := badHistory{
		sql:   `INSERT INTO incident (at, account_id, kind, detail) SELECT changed_at, account_id, 'two_calls', '' FROM account`,
		rules: func(r *Rules) { r.Incidents = []string{"two_calls"} },
	}
	if r := h.spoil(t, incident); !r.OK() {
		t.Errorf("an incident that was to be expected breaks %v", r.Broken())
	}
	limit := badHistory{rules: func(r *Rules) { r.Limits = map[string]int{"main": 10} }}
	if r := h.spoil(t, limit); strings.Join(r.Broken(), " ") != "I9" {
		t.Errorf("eleven requests in a second, where ten are allowed, break %v", r.Broken())
	}
	rules := h.rules()
	rules.Pauses = []Pause{{Campaign: "renewals", At: time.Now()}}
	if _, err := Check(t.Context(), h.db.Pool(), written(t, h.seen), rules); err == nil || !strings.Contains(err.Error(), "renewals") {
		t.Errorf("a pause of no campaign: got %v", err)
	}
}

// All violations are counted, and the first of them shown.
func TestManyViolations(t *testing.T) {
	h := goodHistory(t)
	r := h.spoil(t, badHistory{
		seen: func(s *sight) {
			for _, e := range s.requests() {
				e.Caller = "0571"
			}
		},
		rules: func(r *Rules) { r.Lines = 3 },
	})
	if len(r.Findings) != 1 || r.Findings[0].Violations != 19 || len(r.Findings[0].Lines) != 3 {
		t.Fatalf("got %+v, want 19 violations of I2 and 3 lines", r.Findings)
	}
	var b bytes.Buffer
	h.must(r.Summary(&b))
	for _, want := range []string{"I2 does not hold", "19 violations", "and 16 more", "1 do not hold", "worst second 11 of 12", "139****0001"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the summary does not say %q:\n%s", want, b.String())
		}
	}
}
