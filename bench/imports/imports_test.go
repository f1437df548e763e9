package imports

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dialer/internal/campaign"
)

// The reference gets the very contacts that the importer finds in the file.
func TestTheFileHoldsWhatTheReferenceGets(t *testing.T) {
	dir := t.TempDir()
	f := file{rows: 1000}
	sent, clean := filepath.Join(dir, "contacts.csv"), filepath.Join(dir, "clean.tsv")
	if err := errors.Join(f.write(sent), f.writeClean(clean, 1, 2)); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(clean)
	if err != nil {
		t.Fatal(err)
	}
	var copied []string
	for line := range strings.Lines(string(text)) {
		copied = append(copied, strings.Split(line, "\t")[3])
	}
	in, err := os.Open(sent)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	reader, err := campaign.NewReader(in, campaign.ReaderOptions{Need: []string{"姓名"}})
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[campaign.Phone]bool)
	var imported []string
	rejects, doubles := 0, 0
	for {
		c, reject, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		switch {
		case err != nil:
			t.Fatal(err)
		case reject != nil:
			rejects++
		case seen[c.Phone]:
			doubles++
		default:
			seen[c.Phone] = true
			imported = append(imported, c.Phone.Digits())
		}
	}
	if rejects != 10 || doubles != 20 || len(imported) != 970 || f.contacts != 970 {
		t.Errorf("%d contacts (%d by the file), %d doubles, %d rejects; want 970, 20 and 10 of 1000", len(imported), f.contacts, doubles, rejects)
	}
	if strings.Join(imported, " ") != strings.Join(copied, " ") {
		t.Error("what is imported is not what is copied")
	}
	if err := Serve(t.Context(), []string{sent}); err != nil {
		t.Error(err)
	}
}
