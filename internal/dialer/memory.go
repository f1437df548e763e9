package dialer

import (
	"sync"

	"dialer/internal/campaign"
	"dialer/internal/journal"
)

// memory is what a node knows of its intents from outside the database: which batches
// it has written, and through the journals which ones the processes before it and
// beside it wrote. All methods may be called concurrently.
type memory struct {
	dir     string           // of the journals; "": this process remembers, and nobody after it
	journal *journal.Journal // nil: likewise
	key     campaign.OutIDKey

	mu   sync.Mutex
	last map[campaign.AccountID]int64
}

// remember notes a batch that is committed, with what became of its contacts. After an
// error none of its requests may be made: a node that cannot remember must not dial.
func (m *memory) remember(b *campaign.IntentBatch, verdicts []campaign.Verdict) error {
	if m.journal != nil {
		e := journal.Entry{
			Account: b.Lease.Account, Seq: b.Seq, Campaign: b.Campaign, Node: b.Lease.Node, Term: b.Lease.Term,
			At: b.At, SendBy: b.SendBy, CallerID: b.CallerID,
		}
		var phones, held []campaign.Phone
		for i, c := range b.Contacts {
			one := journal.Contact{N: c.N, Try: c.Try, Chance: c.Chance}
			if verdicts[i].Attempt != 0 {
				e.Attempts, phones = append(e.Attempts, one), append(phones, c.Phone)
			} else {
				e.Held, held = append(e.Held, one), append(held, c.Phone)
			}
		}
		e.Sum = journal.Sum(m.key, append(phones, held...)...)
		if err := m.journal.Append(e); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last[b.Lease.Account] = b.Seq
	return nil
}

// begin notes that this node is about to dial an account whose newest batch in the
// database is last. A node that dies between its first intent and its journal is known to
// have been there.
func (m *memory) begin(account campaign.AccountID, node campaign.NodeID, last campaign.LastBatch) error {
	if m.journal != nil {
		if err := m.journal.Append(journal.Entry{Account: account, Seq: last.Seq, Node: node, At: last.At}); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last[account] = last.Seq
	return nil
}

// of returns the number of the newest batch of an account that anybody here remembers,
// 0 if there was none, or campaign.NoMemory.
func (m *memory) of(account campaign.AccountID) (int64, error) {
	m.mu.Lock()
	last, ok := m.last[account]
	m.mu.Unlock()
	if !ok {
		last = campaign.NoMemory
	}
	if m.dir == "" {
		return last, nil
	}
	known, err := journal.Known(m.dir)
	if e, ok := known[account]; ok {
		last = max(last, e.Seq)
	}
	return last, err
}

// openMemory opens the journal of a slot; nil means that there is none.
func openMemory(slot *state, key campaign.OutIDKey) (*memory, error) {
	m := &memory{key: key, last: make(map[campaign.AccountID]int64)}
	if slot == nil {
		return m, nil
	}
	m.dir = slot.dir
	var err error
	m.journal, err = journal.Open(slot.file("journal.jsonl"))
	return m, err
}

func (m *memory) close() error {
	if m.journal == nil {
		return nil
	}
	return m.journal.Close()
}
