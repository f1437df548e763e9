package postgres_test

import (
	"errors"
	"slices"
	"testing"

	"dialer/internal/campaign"
)

func TestImportIsAllOrNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.idle("c", 0, 0)
	broken := numbers(13800000000, 3)
	broken.end = errors.New("the disk is gone")
	_, err := w.db.ImportContacts(t.Context(), id, "a.csv", broken, w.now)
	if err == nil {
		t.Error("no error")
	}
	w.count(0, `SELECT count(*) FROM contact`)
	w.count(0, `SELECT count(*) FROM import`)
	_, err = w.db.ImportContacts(t.Context(), 99, "a.csv", numbers(13800000000, 1), w.now)
	wantErr(t, err, campaign.ErrNotFound)
}

func TestImportDropsDuplicates(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.idle("c", 13800000000, 3)
	more := numbers(13800000002, 2) // one known, one new
	more.contacts = append(more.contacts, more.contacts[1], campaign.Contact{}, campaign.Contact{Line: 9, Phone: 13800000009})
	more.sum = 77
	imp, err := w.db.ImportContacts(t.Context(), id, "b.csv", more, w.now)
	w.must(err)
	if imp.Rows != 5 || imp.Contacts != 2 || imp.Duplicates != 2 || imp.Rejects != 1 {
		t.Errorf("import %+v", imp)
	}
	if want := []campaign.Phone{13800000002, 13800000003}; !slices.Equal(more.duplicates, want) {
		t.Errorf("%d duplicates were told, want 2", len(more.duplicates))
	}
	for i, p := range w.fresh(id, 0, 10) {
		if p.N != int32(i+1) {
			t.Errorf("contact %d has number %d", i+1, p.N)
		}
	}
	w.count(5, `SELECT count(*) FROM contact`)
	found, ok, err := w.db.Imported(t.Context(), id, [32]byte{77})
	if err != nil || !ok || found.File != "b.csv" || found.Contacts != 2 {
		t.Errorf("imported: %+v, %t, %v", found, ok, err)
	}
	if _, ok, err := w.db.Imported(t.Context(), id, [32]byte{78}); ok || err != nil {
		t.Errorf("imported, of another file: %t, %v", ok, err)
	}
	w.balanced(id)
}
