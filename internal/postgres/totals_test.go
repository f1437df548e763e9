package postgres_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"dialer/internal/campaign"
	"dialer/internal/postgres"
)

var historyCaps = campaign.Caps{PerMinute: 1, PerDay: 3, Per30Days: 100}

func capped(c *campaign.Campaign) { c.Caps = historyCaps }

// history does random things to two campaigns of one account through two nodes, as a
// night of faults would, and remembers what it did for the one who reads a failure.
type history struct {
	*world
	rng       *rand.Rand
	campaigns []campaign.ID
	nodes     []campaign.NodeID
	attempts  []campaign.AttemptID
	calls     map[campaign.AttemptID]string
	key       int
	steps     int
	did       []string
}

func (h *history) note(format string, args ...any) {
	h.did = append(h.did, fmt.Sprintf(format, args...))
}

func (h *history) node() campaign.NodeID { return h.nodes[h.rng.IntN(len(h.nodes))] }

// attempt picks one of those that were made, the newest more often.
func (h *history) attempt() campaign.AttemptID {
	n := len(h.attempts)
	return h.attempts[n-1-min(h.rng.IntN(n), h.rng.IntN(n))]
}

func (h *history) step() {
	w := h.world
	id := h.campaigns[h.rng.IntN(len(h.campaigns))]
	w.now = w.now.Add(time.Duration(h.rng.IntN(40)) * time.Minute)
	what := h.rng.IntN(20)
	if len(h.attempts) == 0 {
		what = 0
	}
	switch what {
	case 0, 1, 2, 3, 4:
		h.dial(id)
	case 5, 6, 7, 8, 9:
		h.answer()
	case 10, 11, 12, 13:
		h.report()
	case 14, 15:
		ids, err := w.db.Lose(w.Context(), w.account, h.node(), w.now.Add(-100*time.Hour), w.now.Add(-time.Duration(h.rng.IntN(90))*time.Minute), w.now)
		w.must(err)
		h.note("lose %v", ids)
	case 16, 17:
		h.settle()
	case 18:
		n, err := w.db.Contradict(w.Context(), w.account, w.now.Add(-100*time.Hour), w.now)
		w.must(err)
		w.must(w.db.Compact(w.Context(), w.account))
		h.note("contradict %d, compact", n)
	case 19:
		h.manage(id)
	}
}

// dial makes attempts of what is due and fresh. Contradictions pause a campaign: it
// goes on, as if a person had looked.
func (h *history) dial(id campaign.ID) {
	w := h.world
	p := w.progress(id)
	if p.State == campaign.Cancelled {
		return
	}
	if p.State == campaign.Paused {
		w.must(w.db.Resume(w.Context(), id, w.now))
	}
	runs, err := w.db.OpenRuns(w.Context(), w.account)
	w.must(err)
	for _, run := range runs {
		if run.Campaign != id {
			continue
		}
		due := w.due(id, w.now)
		contacts := append(due[:min(len(due), 3)], w.fresh(id, run.UptoN, h.rng.IntN(3))...)
		if len(contacts) == 0 {
			return
		}
		b := w.batch(id, w.now, contacts...)
		b.Caps = historyCaps
		b.Window.End = w.now.Add(1000 * time.Hour)
		b.MaxSkew = 10000 * time.Hour
		for i, v := range w.write(b) {
			h.note("contact %d of %d, due %t: %+v", contacts[i].N, id, contacts[i].Due, v)
			if v.Attempt != 0 {
				h.attempts = append(h.attempts, v.Attempt)
				h.calls[v.Attempt] = fmt.Sprint("call-", v.Attempt)
			}
		}
	}
}

// answer writes the response of one or two attempts, whatever has become of them.
func (h *history) answer() {
	w := h.world
	var responses []campaign.Response
	for range 1 + h.rng.IntN(2) {
		id := h.attempt()
		again := campaign.Again{At: w.now.Add(time.Minute), Reason: campaign.DueHold, Chance: 1}
		var r campaign.Response
		switch h.rng.IntN(6) {
		case 0, 1:
			r = w.accepted(id, h.calls[id])
		case 2:
			r = w.throttled(id, w.now.Add(time.Minute))
		case 3:
			r = w.refused(id)
			if h.rng.IntN(2) == 0 {
				r.Again = again
			}
		case 4:
			r = campaign.Response{Attempt: id, State: campaign.Unsent, AnsweredAt: w.now, Code: "dial", Again: again}
		case 5:
			r = w.unsure(id)
		}
		responses = append(responses, r)
		h.note("response %s of %d", r.State, id)
	}
	w.must(w.db.WriteResponses(w.Context(), w.account, h.node(), responses, w.now))
}

// report pushes receipts of an attempt: progress, final, twice, or of a second call.
func (h *history) report() {
	w := h.world
	id := h.attempt()
	holder := w.lease.Node
	w.lease.Node = h.node() // any node takes receipts
	defer func() { w.lease.Node = holder }()
	var receipts []campaign.Receipt
	for range 1 + h.rng.IntN(3) {
		call := h.calls[id]
		if h.rng.IntN(8) == 0 {
			call = "another"
		}
		outcome := []campaign.Outcome{campaign.Busy, campaign.Busy, campaign.Answered, ""}[h.rng.IntN(4)]
		h.key++
		receipts = append(receipts, receipt(id, call, outcome, byte(h.key)))
		h.note("receipt %q of %d", outcome, id)
	}
	w.push(append(receipts, receipts[0])...)
}

func (h *history) settle() {
	w := h.world
	s := postgres.Settlement{
		OutIDs: []string{w.db.OutIDKey().OutID(h.attempt())}, Verdict: postgres.NotCalled,
		Redial: h.rng.IntN(2) == 0, Reason: "test", Person: "anna",
	}
	if h.rng.IntN(2) == 0 {
		s.Verdict = string(campaign.NoAnswer)
	}
	_, err := w.db.Settle(w.Context(), s, w.now)
	if _, refused := err.(postgres.Refusals); err != nil && !refused {
		w.must(err)
	}
	h.note("settle %s %s redial %t: %v", s.OutIDs[0], s.Verdict, s.Redial, err)
}

// manage puts a number on the list, or now and then ends a campaign.
func (h *history) manage(id campaign.ID) {
	w := h.world
	if h.rng.IntN(8) == 0 && id == h.campaigns[1] {
		w.must(w.db.Cancel(w.Context(), id, w.now))
		h.note("cancel %d", id)
		return
	}
	phone := campaign.Phone(13800000000 + h.rng.IntN(12))
	w.must(w.db.Suppress(w.Context(), phone, time.Time{}, "asked", "test", w.now))
	h.note("suppress %d", phone%100)
}

// check compares the running totals with the ledger, in two ways that know nothing of
// each other.
func (h *history) check() bool {
	for _, id := range h.campaigns {
		h.balanced(id)
	}
	if h.steps++; h.steps%20 != 0 {
		return !h.Failed()
	}
	a, err := h.db.Audit(h.Context(), 0, 0)
	h.must(err)
	contradicts := false
	for _, f := range a.Findings {
		contradicts = contradicts || f.Kind == "contradiction"
	}
	for _, f := range a.Findings {
		switch f.Kind {
		case "incident", "contradiction": // these it makes
		case "cap": // who was redialled because of a person's wrong word
			if !contradicts {
				h.Errorf("%+v", f)
			}
		default:
			h.Errorf("%+v", f)
		}
	}
	return !h.Failed()
}

func TestTheTotalsAreTheLedgersWhateverHappens(t *testing.T) {
	t.Parallel()
	const steps = 200
	// The last is new each time: its name tells it, and four that stay show a mend.
	seeds := []uint64{1, 2, 3, 4, uint64(time.Now().UnixNano())}
	for _, seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			h := &history{world: w, rng: rand.New(rand.NewPCG(seed, 0)), calls: make(map[campaign.AttemptID]string)}
			// All of it lies in the past, where an attempt without a response is unknown.
			w.now = w.now.Add(-200 * time.Hour)
			h.nodes = []campaign.NodeID{w.lease.Node, w.node()}
			h.campaigns = []campaign.ID{w.running("redials", 13800000000, 8, redialLost, retryBusy, capped), w.running("holds", 13800000004, 8, retryBusy, capped)}
			for range steps {
				h.step()
				if !h.check() {
					t.Fatalf("after:\n%s", strings.Join(h.did, "\n"))
				}
			}
		})
	}
}
