package journal

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dialer/internal/campaign"
)

func entry(account campaign.AccountID, seq int64) Entry {
	return Entry{
		Account: account, Seq: seq, Campaign: 3, Node: 4, Term: 5, CallerID: "057100000000",
		At: time.Date(2026, 11, 26, 20, 0, 0, 0, time.UTC), SendBy: time.Date(2026, 11, 26, 20, 0, 3, 0, time.UTC),
		Attempts: Contacts{{101, 1, 1}, {102, 1, 1}, {57, 2, 1}}, Held: Contacts{{103, 1, 1}}, Sum: "00ff",
	}
}

func open(t *testing.T, path string) *Journal {
	t.Helper()
	j, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func read(t *testing.T, path string) []Entry {
	t.Helper()
	var all []Entry
	for e, err := range Entries(path) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

func TestContactsAsText(t *testing.T) {
	for _, tt := range []struct {
		text string
		want Contacts
	}{
		{"", nil},
		{"7", Contacts{{7, 1, 1}}},
		{"7-9", Contacts{{7, 1, 1}, {8, 1, 1}, {9, 1, 1}}},
		{"7-8 3.2.1 9 12", Contacts{{7, 1, 1}, {8, 1, 1}, {3, 2, 1}, {9, 1, 1}, {12, 1, 1}}},
		{"2147483646-2147483647", Contacts{{2147483646, 1, 1}, {2147483647, 1, 1}}},
	} {
		var got Contacts
		if err := got.UnmarshalText([]byte(tt.text)); err != nil || fmt.Sprint(got) != fmt.Sprint(tt.want) {
			t.Errorf("%q is read as %v, %v; want %v", tt.text, got, err, tt.want)
		}
		if text, err := tt.want.MarshalText(); err != nil || string(text) != tt.text {
			t.Errorf("%v is written as %q, %v; want %q", tt.want, text, err, tt.text)
		}
	}
	for _, bad := range []string{"x", "0", "-1", "5-3", "1-9999999", "7.2", "7.1.2", "7.0.0", "7.1024.1", "7.2.1.1", "99999999999"} {
		var c Contacts
		if err := c.UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q is read as %v, want an error", bad, c)
		}
	}
}

func FuzzContacts(f *testing.F) {
	f.Add("7-9 3.2.1")
	f.Fuzz(func(t *testing.T, text string) {
		var c, again Contacts
		if c.UnmarshalText([]byte(text)) != nil || len(c) > 10_000 {
			return
		}
		written, err := c.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		if err := again.UnmarshalText(written); err != nil || fmt.Sprint(again) != fmt.Sprint(c) {
			t.Errorf("%v is written as %q and read as %v, %v", c, written, again, err)
		}
	})
}

// A process that is killed anywhere in a write leaves a journal that the next one opens
// and that has lost at most that write.
func TestTornAtEveryByte(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal-1.jsonl")
	j := open(t, path)
	if err := j.Append(entry(1, 1)); err != nil {
		t.Fatal(err)
	}
	first := j.size
	if err := j.Append(entry(1, 2)); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(whole) + 1 {
		if err := os.WriteFile(path, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		var want int64
		switch {
		case n == len(whole):
			want = 2
		case int64(n) >= first:
			want = 1
		}
		known, err := Known(filepath.Dir(path))
		if err != nil || known[1].Seq != want {
			t.Fatalf("after %d of %d bytes batch %d is known, %v; want %d", n, len(whole), known[1].Seq, err, want)
		}
		j := open(t, path)
		if err := j.Append(entry(1, 3)); err != nil {
			t.Fatal(err)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		if got := read(t, path); len(got) != int(want)+1 || got[want].Seq != 3 || fmt.Sprint(got[want]) != fmt.Sprint(entry(1, 3)) {
			t.Fatalf("after %d bytes and another entry the journal holds %v", n, got)
		}
	}
}

// What is no entry is not passed over: a node must not take half a memory for a whole one.
func TestNonsenseIsRefused(t *testing.T) {
	for _, text := range []string{"hello\n", "{}\n", `{"account":1,"seq":-1}` + "\n", `{"account":1,"seq":1,"attempts":"x"}` + "\n", "\n"} {
		path := filepath.Join(t.TempDir(), "journal-1.jsonl")
		if err := os.WriteFile(path, []byte(`{"account":1,"seq":7,"at":"2026-11-26T20:00:00Z"}`+"\n"+text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path); err == nil || !strings.Contains(err.Error(), "line 2") {
			t.Errorf("%q: opened with %v, want an error that names line 2", text, err)
		}
		if _, err := Known(filepath.Dir(path)); err == nil {
			t.Errorf("%q: known without an error", text)
		}
	}
}

// A new file remembers the newest batch of every account, and the older ones are kept
// up to a number.
func TestRotation(t *testing.T) {
	defer func(s int64, n int) { segment, segments = s, n }(segment, segments)
	segment, segments = 2000, 3
	dir := t.TempDir()
	path := filepath.Join(dir, "journal-1.jsonl")
	j := open(t, path)
	if err := j.Append(entry(2, 40)); err != nil {
		t.Fatal(err)
	}
	for seq := range int64(100) {
		if err := j.Append(entry(1, seq+1)); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	known, err := Known(dir)
	if err != nil || known[1].Seq != 100 || known[2].Seq != 40 {
		t.Errorf("known: %v, %v; want batch 100 of account 1 and 40 of account 2", known, err)
	}
	files, err := Files(dir)
	if err != nil || len(files) != 3 {
		t.Errorf("files: %v, %v; want 3", files, err)
	}
	whole := make(map[int64]bool)
	for _, file := range files {
		for _, e := range read(t, file) {
			whole[e.Seq] = whole[e.Seq] || e.Account == 1 && e.Sum != ""
		}
	}
	for seq := int64(100); seq > 90; seq-- {
		if !whole[seq] {
			t.Errorf("batch %d is not in the journal any more", seq)
		}
	}
}

// What cannot be written is an error, and what follows is readable.
func TestDiskError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal-1.jsonl")
	j := open(t, path)
	if err := j.Append(entry(1, 1)); err != nil {
		t.Fatal(err)
	}
	writable := j.f
	readOnly, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	j.f = readOnly
	if err := j.Append(entry(1, 2)); err == nil {
		t.Error("an entry that was not written is reported as written")
	}
	j.f = writable
	if err := j.Append(entry(1, 3)); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if got := read(t, path); len(got) != 2 || got[1].Seq != 3 {
		t.Errorf("the journal holds %v, want batches 1 and 3", got)
	}
	readOnly.Close()
}

func BenchmarkAppend(b *testing.B) {
	j, err := Open(filepath.Join(b.TempDir(), "journal-1.jsonl"))
	if err != nil {
		b.Fatal(err)
	}
	defer j.Close()
	e := entry(1, 1)
	for b.Loop() {
		e.Seq++
		if err := j.Append(e); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(j.size)/float64(e.Seq), "B/entry")
}
