package dialer_test

import (
	"testing"
	"time"

	"dialer/internal/campaign"
	"dialer/internal/simulator"
)

// D10: an answer that does not say what came of the request leaves the attempt unknown,
// whatever is true. It is never made again; what was placed all the same is settled by
// its receipt, the rest is left to a person.
func TestUnclearCodes(t *testing.T) {
	t.Parallel()
	d := newSimDatabase(t)
	const contacts = 18 // fewer than the doubts in a row that pause a campaign
	code := func(c string) simulator.Faults {
		return simulator.Faults{Business: map[string]float64{c: 1}}
	}
	for _, c := range []struct {
		what   string
		faults simulator.Faults
		fate   fateKind
		placed string // in truth: some, all or none
	}{
		{"HTTP 503", simulator.Faults{Status503: 1}, "", "some"},
		{"HTTP 500 and isp.SYSTEM_ERROR", simulator.Faults{SystemError: 1}, "", "some"},
		{"InternalError", code("InternalError"), "", "some"},
		{"isp.UNKNOWN, HTTP 400 among them", code("isp.UNKNOWN"), "", "some"},
		{"isp.GATEWAY_ERROR", code("isp.GATEWAY_ERROR"), "", "some"},
		{"isv.VOICE_CALL_FAIL", code("isv.VOICE_CALL_FAIL"), "", "some"},
		{"a code in no table", code("isv.NEVER_SEEN_BEFORE"), "", "none"},
		{"a web page", simulator.Faults{HTML: 1}, "", "some"},
		{"a redirect", simulator.Faults{Redirect302: 1}, "", "some"},
		{"an empty body", simulator.Faults{}, emptyAnswer, "all"},
		{"OK without a CallId", simulator.Faults{OKWithoutCallID: 1}, "", "all"},
	} {
		t.Run(c.what, func(t *testing.T) {
			p := quiet(contacts, 20, on("10:00:00"))
			p.attempts, p.platform.Faults = 3, c.faults
			if c.fate != "" {
				p.fates[c.fate] = 1
			}
			var done, unknown int64
			inWorld(t, d, p, t.Name(), func(w *world) {
				// Three attempts are allowed, but no outcome asks for a second.
				w.begin(func(spec *campaign.Campaign) { spec.Retry = nil })
				w.startNode()
				time.Sleep(simFaultsUntil)
				if w.progress().Attempts > contacts {
					w.do(act{kind: cancelIt}) // it would not end by itself
				}
				w.settle()
				got := w.progress()
				done, unknown = got.Done, got.Unknown
				if got.Attempts != contacts || got.Doubtful != contacts {
					t.Errorf("progress %+v, want one attempt per contact, each in doubt", got)
				}
			}, func(w *world) {
				placed := int64(0)
				for _, a := range w.found.attempts {
					entries := w.found.requests[a.outID]
					if len(entries) != 1 {
						t.Errorf("attempt %s: %d requests, want 1", a.outID, len(entries))
						continue
					}
					accepted := entries[0].Verdict == simulator.VerdictAccepted
					if accepted {
						placed++
					}
					if a.Class == nil || *a.Class != "unknown" || accepted != (a.Outcome != nil) || accepted && *a.Source != "push" || accepted == a.Lost {
						t.Errorf("attempt %s: %+v; in truth %s", a.outID, a, entries[0].Verdict)
					}
				}
				if done != placed || unknown != contacts-placed {
					t.Errorf("%d done and %d unknown, in truth %d were placed", done, unknown, placed)
				}
				if all, none := placed == contacts, placed == 0; all != (c.placed == "all") || none != (c.placed == "none") {
					t.Errorf("%d of %d placed, want %s", placed, contacts, c.placed)
				}
			})
		})
	}
}
