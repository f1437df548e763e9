package main

import (
	"encoding/json"
	"os"
	"testing"
)

// The demo is the whole program at once, and judges itself against the simulator's
// ledger. Its pace is not asked for here: the race detector and a busy machine cost it.
func TestDemo(t *testing.T) {
	env := environment{"DIALER_PG_BIN": os.Getenv("DIALER_PG_BIN")}
	code, stdout, stderr := env.dialer(t, "demo", "--json")
	var result demoResult
	if err := json.Unmarshal([]byte(stdout), &result); err != nil {
		t.Fatalf("exit code %d, %v: %s", code, err, stderr)
	}
	if (code == exitOK) != result.OK {
		t.Errorf("exit code %d with ok: %v", code, result.OK)
	}
	const pace = "the pace is used"
	names := make(map[string]bool)
	ok := true
	for _, c := range result.Checks {
		names[c.What] = true
		ok = ok && c.OK
		if !c.OK && c.What != pace {
			t.Errorf("%s: %s", c.What, c.Detail)
		}
	}
	if ok != result.OK {
		t.Errorf("ok is %v, all its checks say %v", result.OK, ok)
	}
	for _, want := range []string{"the simulator's calls are ours, one by one", "nobody called twice", "every outcome is what happened", "the limit holds", pace,
		"welcome: nobody forgotten", "renewal: nobody forgotten", "survey: nobody forgotten", "survey: the running totals are the ledger's"} {
		if !names[want] {
			t.Errorf("was not checked: %s", want)
		}
	}
	if len(result.Campaigns) != 3 {
		t.Fatalf("%d campaigns, want 3", len(result.Campaigns))
	}
	for _, c := range result.Campaigns {
		if c.Contacts == 0 || c.Imported != int64(c.Contacts) || c.Attempts < c.Imported-c.Suppressed {
			t.Errorf("%s: %d contacts in the file, %d imported, %d attempts", c.Campaign, c.Contacts, c.Imported, c.Attempts)
		}
	}
}
