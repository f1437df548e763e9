package dialer

import (
	"testing"

	"dialer/internal/campaign"
	"dialer/internal/postgres"
)

// What is read ahead may be dropped while more is being read: that must not come to
// stand before what is read again, or the cursor would pass those in between.
func TestWhatWasReadBeforeItWasDroppedIsNotAdded(t *testing.T) {
	read := func(from, to int32) (contacts []campaign.Pending) {
		for n := from; n <= to; n++ {
			contacts = append(contacts, campaign.Pending{Contact: campaign.Contact{N: n}, Try: 1, Chance: 1})
		}
		return contacts
	}
	w := &work{all: 40}
	w.addFresh(0, read(1, 20))
	after, _, _ := w.wants()
	w.reread()
	w.addFresh(after, read(21, 30))
	w.update(postgres.Run{UptoN: 4, Contacts: 40, Running: true})
	w.addFresh(after, read(21, 30))
	if n := w.waiting(); n != 0 {
		t.Fatalf("%d contacts that were read before the cursor was known again", n)
	}
	w.addFresh(4, read(5, 20))
	if first := w.takeUp(1); len(first) != 1 || first[0].N != 5 {
		t.Errorf("the next contact is %+v, want number 5", first)
	}
}
