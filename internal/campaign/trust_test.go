package campaign

import "testing"

func TestJudge(t *testing.T) {
	const (
		before    = "7312/1/16384@1000"
		restarted = "7312/1/16384@2000"
		promoted  = "7312/2/16384@900"
		moved     = "9999/1/16384@3000"
		cloned    = "7312/1/16999@1000"
	)
	for _, tt := range []struct {
		name            string
		last, known     int64
		server, vouched string
		want            Trust
		synchronous     bool
	}{
		{"nothing happened", 5, 5, before, before, Trusted, false},
		{"another node dialled last", 9, 5, before, before, Trusted, false},
		{"a new node", 9, NoMemory, before, before, Trusted, false},
		{"a new account", 0, NoMemory, before, before, Trusted, false},
		{"a dump loaded in place", 4, 5, before, before, Forgotten, false},
		{"started again", 5, 5, restarted, before, MayVouch, false},
		{"started again, and another node dialled last", 9, 5, restarted, before, MayVouch, false},
		{"started again, never dialled", 0, NoMemory, restarted, before, MayVouch, false},
		{"started again from an older copy of its files", 4, 5, restarted, before, Forgotten, false},
		{"started again, and the node that was about to dial died after its first intent", 1, 0, restarted, before, MayVouch, false},
		{"started again, and nobody here remembers", 5, NoMemory, restarted, before, Unwitnessed, false},
		{"a standby was promoted and lost nothing this node knows", 5, 5, promoted, before, Replaced, false},
		{"a standby was promoted and lost intents", 4, 5, promoted, before, Forgotten, false},
		{"a dump loaded into another cluster", 5, NoMemory, moved, before, Replaced, false},
		{"a copy within the cluster", 5, 5, cloned, before, Replaced, false},
		{"a copy before the first intent", 0, NoMemory, cloned, before, Replaced, false},
		{"a standby with everything was promoted", 5, 5, promoted, before, MayVouch, true},
		{"a standby with everything was promoted, and another node dialled last", 9, 5, promoted, before, MayVouch, true},
		{"a standby with everything was promoted, and nobody here remembers", 5, NoMemory, promoted, before, Unwitnessed, true},
		{"a standby should have had everything", 4, 5, promoted, before, Forgotten, true},
		{"two promotions", 5, 5, "7312/3/16384@900", before, Replaced, true},
		{"the old primary again", 5, 5, before, promoted, Replaced, true},
		{"moved, although there was a standby", 5, 5, moved, before, Replaced, true},
		{"a copy, although there was a standby", 5, 5, cloned, before, Replaced, true},
		{"what nobody wrote", 5, 5, "x", "y", Replaced, true},
	} {
		if got := Judge(tt.last, tt.known, tt.server, tt.vouched, tt.synchronous); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}
