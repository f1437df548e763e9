package dialer_test

import (
	"testing"
	"time"

	"dialer/internal/campaign"
	"dialer/internal/simulator"
)

// A node that gets an account sends nothing that could meet the last holder's requests
// within one second at the platform: whatever that one said still counts, or, if it said
// nothing or died, everything.
func TestTheLastHoldersRequestsCount(t *testing.T) {
	t.Parallel()
	const limit = 200
	all := make([]time.Duration, limit)
	for i := range all {
		all[i] = time.Second
	}
	for _, test := range []struct {
		name string
		ttl  time.Duration
		give bool
		rest campaign.Rest
	}{
		{name: "it died", ttl: time.Millisecond},
		{name: "it gave the account back and said nothing", ttl: time.Hour, give: true},
		{name: "it gave the account back and said that all slots are taken", ttl: time.Hour, give: true, rest: campaign.NewRest(all)},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			n := newNightOf(t, limit, simulator.Config{})
			c := n.campaign(t, "next", 20, nil)
			last, err := n.db.NewNode(t.Context(), "last", "test", time.Now())
			if err != nil {
				t.Fatal(err)
			}
			leases, err := n.db.Acquire(t.Context(), []campaign.AccountID{c.AccountID}, last, test.ttl)
			if err != nil || len(leases) != 1 {
				t.Fatalf("%+v, %v", leases, err)
			}
			n.node(t)
			var ended time.Time
			if test.give {
				ended = time.Now()
				err = n.db.Release(t.Context(), leases[0], test.rest)
			} else {
				ended = time.Now()
				// The node may have begun a moment before this.
				n.until(t, c.ID, "the account is taken over", func(campaign.Progress) bool {
					var got bool
					err = n.db.Pool().QueryRow(t.Context(), `SELECT term > 1 FROM lease WHERE account_id = $1`, c.AccountID).Scan(&got)
					if !got {
						ended = time.Now()
					}
					return got || err != nil
				})
			}
			if err != nil {
				t.Fatal(err)
			}
			n.until(t, c.ID, "the node dials", func(campaign.Progress) bool { return n.sim.Stats().Requests > 0 })
			if waited := time.Since(ended); waited < time.Second {
				t.Errorf("the first request came %s after the last holder's end", waited)
			}
			n.until(t, c.ID, "the run ends", idle)
		})
	}
}
