package postgres_test

import (
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"dialer/internal/campaign"
	"dialer/internal/postgres"
)

func (w *world) acquire(node campaign.NodeID) []campaign.Lease {
	w.Helper()
	leases, err := w.db.Acquire(w.Context(), []campaign.AccountID{w.account}, node, time.Hour)
	w.must(err)
	return leases
}

// An account has one holder. Who comes after one that gave it back knows what it sent
// last; after one that did not, or did not say, nobody knows.
func TestLease(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other := w.node()
	if w.lease.Term != 1 || w.lease.Rest == nil || len(w.lease.Rest) > 0 || w.lease.TakenOver {
		t.Errorf("the first lease of an account: %+v", w.lease)
	}
	if l := w.acquire(other); len(l) != 0 {
		t.Errorf("acquired while held: %+v", l)
	}
	w.must(w.db.Renew(t.Context(), w.lease, -time.Second)) // over at once
	over := w.acquire(other)
	if len(over) != 1 || over[0].Term != w.lease.Term+1 || !over[0].TakenOver || over[0].Rest != nil {
		t.Fatalf("taken over: %+v", over)
	}
	wantErr(t, w.db.Renew(t.Context(), w.lease, time.Hour), campaign.ErrLeaseLost)
	w.must(w.db.Release(t.Context(), w.lease, nil)) // of the old term: nothing
	w.must(w.db.Renew(t.Context(), over[0], time.Hour))
	w.must(w.db.Release(t.Context(), over[0], campaign.Rest{0, 7, 1000}))
	if l := w.acquire(w.lease.Node); len(l) != 1 || l[0].Term != over[0].Term+1 || l[0].TakenOver || !slices.Equal(l[0].Rest, campaign.Rest{0, 7, 1000}) {
		t.Errorf("after a release: %+v", l)
	} else {
		w.must(w.db.Release(t.Context(), l[0], nil))
	}
	if l := w.acquire(other); len(l) != 1 || !l[0].TakenOver {
		t.Errorf("after a release that did not say what still counts: %+v", l)
	}
}

// A beat renews the leases a node still has, names those it has lost, and leaves alone one
// whose row an intent holds. A node that nobody knows any more is told so.
func TestBeat(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	node := w.lease.Node
	held, err := w.db.ApplyAccount(t.Context(), accountFile("held"), w.now)
	w.must(err)
	lost, err := w.db.ApplyAccount(t.Context(), accountFile("lost"), w.now)
	w.must(err)
	more, err := w.db.Acquire(t.Context(), []campaign.AccountID{held, lost}, node, time.Minute)
	w.must(err)
	for _, l := range more {
		if l.Account == lost {
			w.must(w.db.Release(t.Context(), l, nil))
		}
	}
	b := &postgres.Beat{Node: node, At: w.now, TTL: 2 * time.Hour, Spreads: true, Leases: append(more, w.lease)}
	err = pgx.BeginFunc(t.Context(), w.db.Pool(), func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), `SELECT FROM lease WHERE account_id = $1 FOR SHARE`, w.account); err != nil {
			return err
		}
		renewed, gone, err := w.db.Beat(t.Context(), b)
		if !slices.Equal(renewed, []campaign.AccountID{held}) || !slices.Equal(gone, []campaign.AccountID{lost}) {
			t.Errorf("renewed %v, lost %v; want [%d], [%d]", renewed, gone, held, lost)
		}
		return err
	})
	w.must(err)
	w.count(1, `SELECT count(*) FROM lease WHERE until > clock_timestamp() + interval '90 minutes'`)
	b.Node = 77
	if _, _, err := w.db.Beat(t.Context(), b); err == nil {
		t.Error("an unknown node gave a sign of life")
	} else {
		wantErr(t, err, campaign.ErrNodeForgotten)
	}
}

// The fleet is the nodes that are alive and share the accounts, and who holds what.
func TestFleet(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, _ := w.dial("c", 13800000000, 1)
	_, _, err := w.db.Start(t.Context(), id, w.now)
	w.must(err)
	idle, err := w.db.ApplyAccount(t.Context(), accountFile("idle"), w.now)
	w.must(err)
	refusing, bound, gone := w.node(), w.node(), w.node()
	for _, b := range []postgres.Beat{
		{Node: w.lease.Node, Spreads: true}, {Node: gone, Spreads: true}, {Node: bound},
		{Node: refusing, Spreads: true, Refused: map[campaign.AccountID]string{idle: "it has no key"}},
	} {
		b.At, b.TTL = w.now, time.Minute
		_, _, err := w.db.Beat(t.Context(), &b)
		w.must(err)
	}
	w.must(w.db.Leave(t.Context(), gone, w.now))
	look := func() *campaign.Fleet {
		t.Helper()
		f, err := w.db.Fleet(t.Context())
		w.must(err)
		return f
	}
	f := look()
	if want := []campaign.Held{{Account: w.account, Node: w.lease.Node, Busy: true}, {Account: idle}}; !slices.Equal(f.Accounts, want) {
		t.Errorf("accounts %+v, want %+v", f.Accounts, want)
	}
	nodes := make(map[campaign.NodeID][]campaign.AccountID)
	for _, n := range f.Nodes {
		nodes[n.Node] = n.Refuses
	}
	if len(nodes) != 2 || len(nodes[w.lease.Node]) != 0 || !slices.Equal(nodes[refusing], []campaign.AccountID{idle}) {
		t.Errorf("nodes %+v, want %d, and %d that refuses account %d", f.Nodes, w.lease.Node, refusing, idle)
	}
	free, err := w.db.Free(t.Context())
	w.must(err)
	if !slices.Equal(free, []campaign.AccountID{idle}) {
		t.Errorf("free: %v, want [%d]", free, idle)
	}
	w.must(w.db.Renew(t.Context(), w.lease, -time.Second))
	if f := look(); f.Accounts[0].Node != 0 {
		t.Errorf("of a lease that is over: %+v", f.Accounts[0])
	}
}
