package campaign

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestAttemptIDParts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := ID(rapid.Int32Range(1, MaxCampaigns).Draw(t, "campaign"))
		n := rapid.Int32Range(1, MaxContacts).Draw(t, "contact")
		try := rapid.IntRange(1, MaxTries).Draw(t, "try")
		id := NewAttemptID(c, n, try)
		if id <= 0 || id.Campaign() != c || id.Contact() != n || id.Try() != try {
			t.Fatalf("NewAttemptID(%d, %d, %d) = %d, whose parts are %d, %d, %d", c, n, try, id, id.Campaign(), id.Contact(), id.Try())
		}
	})
}

func TestOutIDRoundTrip(t *testing.T) {
	key := OutIDKey{1, 2, 3}
	rapid.Check(t, func(t *rapid.T) {
		id := NewAttemptID(ID(rapid.Int32Range(1, MaxCampaigns).Draw(t, "c")), rapid.Int32Range(1, MaxContacts).Draw(t, "n"), rapid.IntRange(1, MaxTries).Draw(t, "try"))
		out := key.OutID(id)
		if len(out) != OutIDLen || strings.Trim(out, outIDAlphabet) != "" {
			t.Fatalf("OutID(%d) = %q", id, out)
		}
		if got, ok := key.AttemptID(out); !ok || got != id {
			t.Fatalf("AttemptID(OutID(%d)) = %d, %v", id, got, ok)
		}
	})
}

// An OutId is also the proof that a pushed receipt is about one of our calls: a
// guess, a changed character or another database's key must not pass.
func TestForeignOutID(t *testing.T) {
	ours, theirs := OutIDKey{1}, OutIDKey{2}
	passed := 0
	const guesses = 1 << 17
	for n := range int32(guesses) {
		if _, ok := ours.AttemptID(theirs.OutID(NewAttemptID(1, n+1, 1))); ok {
			passed++
		}
	}
	// 11 proof bits let one in 2048 through to the ledger, where it finds no attempt.
	if passed > guesses/1024 {
		t.Errorf("%d of %d foreign OutIds look like ours, want about %d", passed, guesses, guesses/2048)
	}
	for _, s := range []string{"", "0", strings.Repeat("0", 14), strings.Repeat("0", 16), strings.Repeat("I", 15), "云云云云云", `{"out_id":"xy"}`} {
		if id, ok := ours.AttemptID(s); ok {
			t.Errorf("AttemptID(%q) = %d, want none", s, id)
		}
	}
}
