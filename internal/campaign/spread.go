package campaign

import "slices"

// Fleet is who holds which account at one moment.
type Fleet struct {
	Accounts []Held   // in the order of their numbers
	Nodes    []Sharer // those that are alive and share the accounts, in the order of their numbers
}

// Held is an account and the node that holds it, 0 if none does.
type Held struct {
	Account AccountID
	Node    NodeID
	// Busy says that a campaign of the account runs. Busy accounts are spread apart from
	// idle ones: a node with the idle half would be of no help.
	Busy bool
}

// Sharer is a node that takes its share of the accounts, and those it cannot dial.
type Sharer struct {
	Node    NodeID
	Refuses []AccountID
}

func (s Sharer) takes(a AccountID) bool { return !slices.Contains(s.Refuses, a) }

// Take returns the free accounts that a node takes now: those for which it is the node
// that holds least, and those that have waited too long for another one. Accounts it
// refuses are not among them. All nodes that see the same divide the free accounts
// among them, each account to one.
func (f *Fleet) Take(node NodeID, waited func(AccountID) bool) []AccountID {
	var taken []AccountID
	for _, busy := range []bool{true, false} {
		held, free := f.count(busy)
		for _, a := range free {
			var least *Sharer
			mine := false
			for i, s := range f.Nodes {
				if !s.takes(a) {
					continue
				}
				mine = mine || s.Node == node
				if least == nil || held[s.Node] < held[least.Node] {
					least = &f.Nodes[i]
				}
			}
			switch {
			case least == nil:
			case least.Node == node, mine && waited(a):
				taken = append(taken, a)
				held[node]++
			default:
				held[least.Node]++
			}
		}
	}
	return taken
}

// Give returns the account that a node should hand over, so that one with at least two
// accounts less takes it, or 0. Of all nodes only the one that has most gives, one account
// at a time; when it has given, the next look decides anew. Settled tells which accounts
// the node has held for long enough to let them move again.
func (f *Fleet) Give(node NodeID, settled func(Held) bool) AccountID {
	for _, busy := range []bool{false, true} {
		held, free := f.count(busy)
		var giver NodeID
		var candidates []Held
		for _, s := range f.Nodes {
			if giver != 0 && held[s.Node] <= held[giver] {
				continue
			}
			if c := f.candidates(s.Node, busy, held, free); len(c) > 0 {
				giver, candidates = s.Node, c
			}
		}
		if giver != node {
			continue
		}
		if i := slices.IndexFunc(candidates, settled); i >= 0 {
			return candidates[i].Account
		}
	}
	return 0
}

// candidates are the accounts of a node that another would take and be better for it. An
// account that is free already is on its way to whoever takes it.
func (f *Fleet) candidates(node NodeID, busy bool, held map[NodeID]int, free []AccountID) []Held {
	var takers []Sharer
	for _, s := range f.Nodes {
		coming := 0
		for _, a := range free {
			if s.takes(a) {
				coming++
			}
		}
		if held[s.Node]+coming+2 <= held[node] {
			takers = append(takers, s)
		}
	}
	var all []Held
	for _, a := range f.Accounts {
		if a.Node == node && a.Busy == busy && slices.ContainsFunc(takers, func(s Sharer) bool { return s.takes(a.Account) }) {
			all = append(all, a)
		}
	}
	return all
}

// count returns how many accounts of one kind each node holds, and which are free. What a
// node holds that does not share counts for nobody.
func (f *Fleet) count(busy bool) (held map[NodeID]int, free []AccountID) {
	held = make(map[NodeID]int, len(f.Nodes))
	for _, s := range f.Nodes {
		held[s.Node] = 0
	}
	for _, a := range f.Accounts {
		if a.Busy != busy {
			continue
		}
		if _, shares := held[a.Node]; shares {
			held[a.Node]++
		} else if a.Node == 0 {
			free = append(free, a.Account)
		}
	}
	return held, free
}
