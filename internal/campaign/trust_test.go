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
	}{
		{"nothing happened", 5, 5, before, before, Trusted},
		{"another node dialled last", 9, 5, before, before, Trusted},
		{"a new node", 9, NoMemory, before, before, Trusted},
		{"a new account", 0, NoMemory, before, before, Trusted},
		{"a dump loaded in place", 4, 5, before, before, Forgotten},
		{"started again", 5, 5, restarted, before, MayVouch},
		{"started again, and another node dialled last", 9, 5, restarted, before, MayVouch},
		{"started again, never dialled", 0, NoMemory, restarted, before, MayVouch},
		{"started again from an older copy of its files", 4, 5, restarted, before, Forgotten},
		{"started again, and the node that was about to dial died after its first intent", 1, 0, restarted, before, MayVouch},
		{"started again, and nobody here remembers", 5, NoMemory, restarted, before, Unwitnessed},
		{"a standby was promoted and lost nothing this node knows", 5, 5, promoted, before, Replaced},
		{"a standby was promoted and lost intents", 4, 5, promoted, before, Forgotten},
		{"a dump loaded into another cluster", 5, NoMemory, moved, before, Replaced},
		{"a copy within the cluster", 5, 5, cloned, before, Replaced},
		{"a copy before the first intent", 0, NoMemory, cloned, before, Replaced},
	} {
		if got := Judge(tt.last, tt.known, tt.server, tt.vouched); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}
