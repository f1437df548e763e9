package torture

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
)

// pair is a night on a server with a standby, which nodes are told of by one address with
// both hosts in it: the first one of them that may be written to is the database.
type pair struct {
	*forgetful
	first, second *Postgres
}

func newPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{forgetful: &forgetful{Night: NewNight(t, NightOptions{}), contacts: 2500}}
	p.Prepare(t, p.contacts, "pace: 150")
	p.first = p.Postgres
	p.second = p.first.Standby(t, p.first.Addr())
	p.Database = databaseURL(p.first.Addr()+","+p.second.Addr(), "dialer")
	return p
}

// failOver kills the server and promotes the standby.
func (p *pair) failOver() {
	p.t.Helper()
	must(p.t, p.first.Kill9())
	must(p.t, p.second.Promote())
	p.Postgres = p.second
}

// dialsOn waits until so many more requests have come, without a person.
func (p *pair) dialsOn(requests int) {
	p.t.Helper()
	p.dialled(int(p.Simulator.Stats().Requests) + requests)
	account, err := p.DB().Account(p.t.Context(), nightAccount)
	must(p.t, err)
	if !account.Active {
		p.t.Errorf("the account is paused: %s", account.Reason)
	}
}

// One Postgres died, and the standby for which every commit had waited is promoted by
// hand. The nodes, which were told that no other standby ever is, find it by themselves and
// go on: nothing is missing there.
func TestSynchronousStandbyIsPromoted(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	must(t, p.first.Synchronous())
	for i := range 2 {
		p.StartNode(t, NodeOptions{Name: fmt.Sprintf("node%d", i+1), Args: []string{"--trust-standby"}})
	}
	p.dialled(250)
	p.failOver()
	p.dialsOn(150)

	// The old primary comes back beside the new one, and stands first in the address. Who
	// has to connect anew passes it by.
	must(t, p.first.Unlock())
	must(t, p.first.Start())
	_, err := p.second.TerminateBackends()
	must(t, err)
	p.dialsOn(150)
	must(t, p.first.as("dialer", func(ctx context.Context, conn *pgx.Conn) error {
		var busy int
		err := conn.QueryRow(ctx, `SELECT count(*) FROM pg_stat_activity WHERE application_name = 'dialer' AND state = 'active'`).Scan(&busy)
		if err == nil && busy > 0 {
			t.Errorf("%d connections work on the old primary", busy)
		}
		return err
	}))
	p.finish(0)
	p.Check(Rules{Quiescent: true, LostAfter: lostAfter})
}

// A standby for which nobody waited may lack whatever was written last. Nobody is called
// until a person has looked, whatever the nodes were told.
func TestAsynchronousStandbyIsPromoted(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	node := p.StartNode(t, NodeOptions{Name: "node", Args: []string{"--trust-standby"}})
	p.dialled(250)
	p.failOver()
	p.held(node, "NOT DIALLING")
	p.t.Log(p.Dialer("recover", "--reason", "the test wants it", "--by", "somebody"))
	p.finish(900)
}
