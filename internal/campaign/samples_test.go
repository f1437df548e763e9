package campaign

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const samples = "../../sample_campaigns"

func TestSamples(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(samples, "account.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	account, err := ParseAccount("account.yaml", data)
	if err != nil {
		t.Fatal(err)
	}
	type counts struct {
		encoding                         string
		contacts, people, rejects, blank int
	}
	want := map[string]counts{
		"welcome": {encUTF8, 12, 12, 0, 0},
		"renewal": {encGB18030, 288, 284, 13, 1},
		"survey":  {encUTF8, 8000, 7920, 0, 0},
	}
	files, err := filepath.Glob(filepath.Join(samples, "*.yaml"))
	if err != nil || len(files) != len(want)+1 {
		t.Fatalf("%d files, %v, want %d", len(files), err, len(want)+1)
	}
	owner := map[Phone]string{}
	for name := range want {
		c, r := openSample(t, name)
		if c.Name != name || c.Account != account.Name || !c.Sample {
			t.Errorf("%s: campaign %s of account %s, sample %v", name, c.Name, c.Account, c.Sample)
		}
		for _, id := range c.CallerIDs {
			if !slices.ContainsFunc(account.CallerIDs, func(own CallerID) bool { return own.Number == id }) {
				t.Errorf("%s: caller ID %s is not the account's", name, id)
			}
		}
		got, reasons := counts{}, map[string]int{}
		people := map[Phone]bool{}
		for {
			contact, bad, err := r.Next()
			if err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if bad != nil {
				got.rejects++
				reasons[bad.Reason]++
				continue
			}
			if got.contacts++; owner[contact.Phone] != "" && owner[contact.Phone] != name {
				t.Fatalf("a number of %s line %d is also in %s", name, contact.Line, owner[contact.Phone])
			}
			owner[contact.Phone], people[contact.Phone] = name, true
			if text, err := c.Call.RenderParam(contact.Vars); err != nil || strings.Contains(text, "{姓名}") {
				t.Fatalf("%s line %d renders %s, %v", name, contact.Line, text, err)
			}
		}
		got.encoding, got.people, got.blank = r.Encoding(), len(people), r.Blank()
		if got != want[name] {
			t.Errorf("%s holds %+v, want %+v; rejects %v", name, got, want[name], reasons)
		}
		if name != "renewal" {
			continue
		}
		if diff := cmp.Diff(map[string]int{"scientific_notation": 1, "hotline_400_800": 1, "foreign": 1, "several_numbers": 1, "empty": 1, "too_short": 1,
			"empty_variable": 1, "forbidden_character": 1, "ragged_row": 2, "service_number": 1, "extension": 1, "total_row": 1}, reasons); diff != "" {
			t.Errorf("rejects of %s (-want +got):\n%s", name, diff)
		}
	}
}

func openSample(t *testing.T, name string) (*Campaign, *Reader) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(samples, name+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := ParseCampaign(name+".yaml", data)
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(filepath.Join(samples, name+".csv"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	r, err := NewReader(file, ReaderOptions{Columns: c.Columns, Need: c.Call.Placeholders()})
	if err != nil {
		t.Fatal(err)
	}
	return c, r
}
