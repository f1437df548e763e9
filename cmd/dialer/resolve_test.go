package main

import (
	"encoding/json"
	"os/user"
	"strings"
	"testing"

	"dialer/internal/postgres"
)

func TestResolve(t *testing.T) {
	t.Parallel()
	n := newNight(t)
	stdout := n.must(t, "resolve", strings.ToLower(n.outIDs["lost"]), "--as", "busy", "--reason", "it is in the console", "--by", "anna")
	for _, want := range []string{n.outIDs["lost"], "138****0004", "contact 4 of greeting", "was lost, settled as busy by anna", "its contact is done"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("does not say %q: %s", want, stdout)
		}
	}
	stdout = n.must(t, "resolve", "--campaign", "greeting", "--contact", "7", "--as", "not_called", "--reason", "it is not in the console", "--redial")
	if !strings.Contains(stdout, n.outIDs["silent"]) || !strings.Contains(stdout, "its contact is called again") {
		t.Errorf("by contact: %s", stdout)
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	if got := count(t, n.db, `SELECT count(*) FROM report.settlement WHERE settled_by = $1 AND verdict = 'not_called' AND redial AND reason = 'it is not in the console'`, me.Username); got != 1 {
		t.Error("the settlement is not written down under the user's name")
	}
	if got := count(t, n.db, `SELECT count(*) FROM report.attempt WHERE contact = 4 AND state = 'ended' AND outcome = 'busy' AND source = 'person' AND settled_by = 'anna'`); got != 1 {
		t.Error("the attempt has no outcome by a person")
	}
	if got := count(t, n.db, `SELECT count(*) FROM report.contact WHERE contact = 7 AND state = 'pending' AND due_reason = 'settled'`); got != 1 {
		t.Error("the contact is not pending again")
	}
	if got, want := lastLine(n.must(t, "audit")), "2 pending, 2 open, 2 settled by hand, 1 wait for a person: dialer resolve"; !strings.HasSuffix(got, want) {
		t.Errorf("the audit says %q, want %q", got, want)
	}
}

func TestResolveJSON(t *testing.T) {
	t.Parallel()
	n := newNight(t)
	var said struct {
		Settled []postgres.Settled
		Refused postgres.Refusals
	}
	resolve := func(args ...string) int {
		t.Helper()
		code, stdout, _ := n.dialer(t, append([]string{"resolve", "--json", "--by", "anna", "--reason", "x", "--as", "not_called"}, args...)...)
		said.Settled, said.Refused = nil, nil
		if err := json.Unmarshal([]byte(stdout), &said); err != nil {
			t.Fatalf("%v: %s", err, stdout)
		}
		return code
	}
	if code := resolve(n.outIDs["unknown"], n.outIDs["answered"]); code != exitFailure || len(said.Settled) != 0 || len(said.Refused) != 1 || said.Refused[0].OutID != n.outIDs["answered"] {
		t.Errorf("exit code %d: %+v", code, said)
	}
	if code := resolve(n.outIDs["unknown"]); code != exitOK || len(said.Refused) != 0 || len(said.Settled) != 1 || said.Settled[0].Phone != "138****0005" || said.Settled[0].Was != "unknown" {
		t.Errorf("exit code %d: %+v", code, said)
	}
}

func TestResolveRefuses(t *testing.T) {
	t.Parallel()
	n := newNight(t)
	many := make([]string, postgres.SettleAlone+1)
	for i := range many {
		many[i] = n.outIDs["lost"]
	}
	with := func(ids []string, more ...string) []string {
		return append(append([]string{"--reason", "seen", "--by", "anna"}, more...), ids...)
	}
	for _, tt := range []struct {
		name string
		args []string
		code int
		want []string
	}{
		{"no verdict", []string{"x", "--reason", "seen"}, exitUsage, []string{"--as"}},
		{"no reason", []string{"x", "--as", "busy"}, exitUsage, []string{"--reason"}},
		{"empty reason", []string{"x", "--as", "busy", "--reason", " "}, exitUsage, []string{"--reason is empty", "say how you know"}},
		{"unknown verdict", with([]string{"x"}, "--as", "happy"), exitUsage, []string{"--as happy", "not_called, answered, busy"}},
		{"nothing named", with(nil, "--as", "busy"), exitUsage, []string{"OutIds", "--campaign and --contact"}},
		{"named in two ways", with([]string{"x"}, "--as", "busy", "--campaign", "greeting", "--contact", "1"), exitUsage, []string{"OutIds", "or by"}},
		{"half a contact", with(nil, "--as", "busy", "--campaign", "greeting"), exitUsage, []string{"go together"}},
		{"many by one", with(many, "--as", "busy"), exitUsage, []string{"--second NAME", "more than 50"}},
		{"many by one with two names", with(many, "--as", "busy", "--second", "anna"), exitUsage, []string{"who is not the first"}},
		{"unknown campaign", with(nil, "--as", "busy", "--campaign", "greting", "--contact", "1"), exitFailure, []string{`"greting"`}},
		{"contact without doubt", with(nil, "--as", "busy", "--campaign", "greeting", "--contact", "1"), exitFailure, []string{"contact 1", "no attempt in doubt"}},
		{"no OutId", with([]string{"000000000000000"}, "--as", "busy"), exitFailure, []string{"000000000000000: no attempt has this OutId"}},
		{"ended", with([]string{n.outIDs["answered"]}, "--as", "busy"), exitFailure, []string{"not in doubt: its state is ended"}},
		{"throttled", with([]string{n.outIDs["throttled"]}, "--as", "busy"), exitFailure, []string{"not in doubt: its state is throttled"}},
		{"refused", with([]string{n.outIDs["refused"]}, "--as", "busy"), exitFailure, []string{"not in doubt: its state is refused"}},
		{"accepted", with([]string{n.outIDs["accepted"]}, "--as", "busy"), exitFailure, []string{"not in doubt: its state is accepted"}},
		{"one of two", with([]string{n.outIDs["lost"], n.outIDs["accepted"]}, "--as", "busy"), exitFailure, []string{"nothing was settled", n.outIDs["accepted"]}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, _, stderr := n.dialer(t, append([]string{"resolve"}, tt.args...)...)
			if code != tt.code || !strings.HasPrefix(stderr, "dialer: ") || strings.Count(stderr, "\n") != 1 {
				t.Errorf("exit code %d, want %d: %q", code, tt.code, stderr)
			}
			for _, want := range tt.want {
				if !strings.Contains(stderr, want) {
					t.Errorf("does not say %q: %s", want, stderr)
				}
			}
		})
	}
	if got := count(t, n.db, `SELECT count(*) FROM settlement`); got != 0 {
		t.Errorf("%d settlements are written", got)
	}
	// With a second person it is done, and both names stand.
	n.must(t, append([]string{"resolve"}, with(many, "--as", "busy", "--second", "bert")...)...)
	if got := count(t, n.db, `SELECT count(*) FROM settlement WHERE person = 'anna' AND second_person = 'bert'`); got != 1 {
		t.Error("the second person is not written down")
	}
}
