package campaign

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// fleet draws accounts, some of them busy, and nodes, each of which may refuse some.
func drawFleet(t *rapid.T, refusals bool) *Fleet {
	f := new(Fleet)
	nodes := rapid.IntRange(1, 6).Draw(t, "nodes")
	for n := range nodes {
		f.Nodes = append(f.Nodes, Sharer{Node: NodeID(n + 1)})
	}
	for a := range rapid.IntRange(1, 30).Draw(t, "accounts") {
		// Some are held by a node that does not share, which is one more.
		holder := NodeID(rapid.IntRange(0, nodes+1).Draw(t, "holder"))
		f.Accounts = append(f.Accounts, Held{Account: AccountID(a + 1), Node: holder, Busy: rapid.Bool().Draw(t, "busy")})
		for i := range f.Nodes {
			if refusals && f.Nodes[i].Node != holder && rapid.IntRange(0, 3).Draw(t, "refuses") == 0 {
				f.Nodes[i].Refuses = append(f.Nodes[i].Refuses, AccountID(a+1))
			}
		}
	}
	return f
}

func never[T any](T) bool  { return false }
func always[T any](T) bool { return true }

// take lets every node take what is its own by the same look.
func (f *Fleet) take(t *rapid.T, waited func(AccountID) bool) (moved []AccountID) {
	seen := *f
	seen.Accounts = slices.Clone(f.Accounts)
	for _, s := range f.Nodes {
		for _, a := range seen.Take(s.Node, waited) {
			held := f.account(a)
			if seen.account(a).Node != 0 || !s.takes(a) {
				t.Fatalf("node %d takes account %d, which is held by %d and which it takes: %t", s.Node, a, seen.account(a).Node, s.takes(a))
			}
			if held.Node == 0 { // the first one that comes has it
				held.Node = s.Node
				moved = append(moved, a)
			}
		}
	}
	return moved
}

func (f *Fleet) account(a AccountID) *Held {
	return &f.Accounts[slices.IndexFunc(f.Accounts, func(h Held) bool { return h.Account == a })]
}

// uneven is by how many accounts of one kind two nodes differ at most.
func (f *Fleet) uneven() int {
	worst := 0
	for _, busy := range []bool{true, false} {
		held, _ := f.count(busy)
		least, most := len(f.Accounts), 0
		for _, n := range held {
			least, most = min(least, n), max(most, n)
		}
		worst = max(worst, most-least)
	}
	return worst
}

// Whoever holds what, nodes that give and take by this rule end with the same number of
// accounts, in few moves; each free account is taken by one node at the first look; no
// account is given by a node twice in a row, nor handed on; and then nothing moves.
func TestSpread(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		f := drawFleet(t, false)
		f.take(t, never)
		if slices.ContainsFunc(f.Accounts, func(h Held) bool { return h.Node == 0 }) {
			t.Fatalf("an account is free after every node has looked: %+v", f.Accounts)
		}
		gave := make(map[AccountID]bool)
		for moves := 0; ; moves++ {
			if moves > len(f.Accounts) {
				t.Fatalf("still moving after %d moves: %+v", moves, f.Accounts)
			}
			var given []AccountID
			for _, s := range f.Nodes {
				if a := f.Give(s.Node, always); a != 0 {
					given = append(given, a)
					if f.account(a).Node != s.Node {
						t.Fatalf("node %d gives account %d, which is held by %d", s.Node, a, f.account(a).Node)
					}
				}
			}
			if len(given) == 0 {
				break
			}
			// A node that gives idle accounts and one that gives busy ones may be two.
			if len(given) > 2 {
				t.Fatalf("accounts %v are given at the same moment", given)
			}
			for _, a := range given {
				if gave[a] {
					t.Fatalf("account %d is handed over again", a)
				}
				gave[a] = true
				from := f.account(a).Node
				f.account(a).Node = 0
				if f.take(t, never); f.account(a).Node == from || f.account(a).Node == 0 {
					t.Fatalf("node %d gave account %d and node %d took it", from, a, f.account(a).Node)
				}
			}
		}
		if f.uneven() > 1 {
			t.Fatalf("nodes differ by %d accounts: %+v", f.uneven(), f.Accounts)
		}
	})
}

// A node that refuses accounts does not get them, costs nobody a hand-over for nothing, and
// keeps no account free that another would take.
func TestSpreadWithRefusals(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		f := drawFleet(t, true)
		f.take(t, never)
		for _, h := range f.Accounts {
			if h.Node == 0 && slices.ContainsFunc(f.Nodes, func(s Sharer) bool { return s.takes(h.Account) }) {
				t.Fatalf("account %d is free, and a node takes it: %+v", h.Account, f)
			}
		}
		moved := make(map[AccountID]int)
		for range 3 * len(f.Accounts) * len(f.Nodes) {
			for _, s := range f.Nodes {
				// What has moved is let alone for a while, as a node does.
				a := f.Give(s.Node, func(h Held) bool { return moved[h.Account] == 0 })
				if a == 0 {
					continue
				}
				moved[a]++
				f.account(a).Node = 0
				if f.take(t, never); f.account(a).Node == s.Node || f.account(a).Node == 0 {
					t.Fatalf("node %d gave account %d and node %d took it", s.Node, a, f.account(a).Node)
				}
			}
		}
		for _, s := range f.Nodes {
			for _, a := range f.Accounts {
				if a.Node == s.Node && !s.takes(a.Account) {
					t.Fatalf("node %d holds account %d, which it refuses", s.Node, a.Account)
				}
			}
		}
	})
}

// An account that has waited is taken by whoever looks, whether it is his turn or not,
// unless he refuses it; one that everybody refuses waits.
func TestAnAccountDoesNotWaitForFairness(t *testing.T) {
	t.Parallel()
	f := &Fleet{
		Accounts: []Held{{Account: 1, Node: 1, Busy: true}, {Account: 2, Node: 0, Busy: true}, {Account: 3, Node: 0, Busy: true}},
		Nodes:    []Sharer{{Node: 1, Refuses: []AccountID{3}}, {Node: 2, Refuses: []AccountID{3}}},
	}
	for _, test := range []struct {
		node   NodeID
		waited func(AccountID) bool
		want   []AccountID
	}{{1, never[AccountID], nil}, {2, never[AccountID], []AccountID{2}}, {1, always[AccountID], []AccountID{2}}, {7, always[AccountID], nil}} {
		if got := f.Take(test.node, test.waited); !slices.Equal(got, test.want) {
			t.Errorf("node %d takes %v, want %v", test.node, got, test.want)
		}
	}
}
