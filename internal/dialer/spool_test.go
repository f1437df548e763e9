package dialer

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dialer/internal/campaign"
)

// newSpool takes a slot of its own in the folder.
func newSpool(t testing.TB, dir string, most int64) *spool {
	t.Helper()
	slot, err := openState(dir, "test")
	if err != nil {
		t.Fatal(err)
	}
	s, err := openSpool(slot, most, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.end() })
	return s
}

// end frees the spool's slot, as the end of its process does.
func (s *spool) end() {
	s.Close()
	s.state.Close()
}

// put spools a push for each body.
func (s *spool) put(t testing.TB, bodies ...string) {
	t.Helper()
	var pushes []spooled
	for _, b := range bodies {
		pushes = append(pushes, spooled{Account: 1, ReceivedAt: time.Now(), Body: []byte(b)})
	}
	if err := s.append(pushes); err != nil {
		t.Error(err)
	}
}

// all drains the spool and returns what was in it.
func (s *spool) all(t testing.TB) (bodies []string) {
	t.Helper()
	n, err := s.drain(func(pushes []spooled) error {
		for _, p := range pushes {
			bodies = append(bodies, string(p.Body))
		}
		return nil
	})
	if err != nil || n != len(bodies) {
		t.Fatalf("drained %d, %d came: %v", n, len(bodies), err)
	}
	return bodies
}

func files(t testing.TB, s *spool, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(s.state.dir, pattern))
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

func want(t testing.TB, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestSpoolKeepsTheOrder(t *testing.T) {
	s := newSpool(t, t.TempDir(), 1<<30)
	var all []string
	// Enough for several segments, with an end of the process in between.
	long := strings.Repeat("x", segmentSize/8)
	for i := range 20 {
		if i == 7 {
			s.end()
			dir := filepath.Dir(s.state.dir)
			s = newSpool(t, dir, 1<<30)
		}
		all = append(all, fmt.Sprintf("%d a", i), fmt.Sprintf("%d b %s", i, long))
		s.put(t, all[2*i:]...)
	}
	if n := len(files(t, s, "spool-*")); n < 3 {
		t.Errorf("%d segments, want several", n)
	}
	if s.empty() {
		t.Error("it is said to be empty")
	}
	want(t, s.all(t), all...)
	if left := files(t, s, "spool-*"); len(left) != 0 || !s.empty() {
		t.Errorf("drained, and there is still %v", left)
	}
	s.put(t, "after")
	want(t, s.all(t), "after")
}

// Nothing is deleted that the database has not taken.
func TestSpoolWaitsForTheDatabase(t *testing.T) {
	s := newSpool(t, t.TempDir(), 1<<30)
	s.put(t, "a", "b")
	away := errors.New("away")
	for range 3 {
		if n, err := s.drain(func([]spooled) error { return away }); n != 0 || !errors.Is(err, away) {
			t.Fatalf("drained %d, %v", n, err)
		}
		s.put(t, "c")
	}
	want(t, s.all(t), "a", "b", "c", "c", "c")
}

func TestSpoolKeepsWhatItWasGiven(t *testing.T) {
	s := newSpool(t, t.TempDir(), 1<<30)
	given := spooled{Account: 7, ReceivedAt: time.Date(2026, 11, 26, 9, 0, 0, 123456000, time.UTC), Body: []byte("[{\"a\":\"\n\x00\xff\"}]")}
	if err := s.append([]spooled{given}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.drain(func(pushes []spooled) error {
		if len(pushes) != 1 || pushes[0].Account != given.Account || !pushes[0].ReceivedAt.Equal(given.ReceivedAt) || !bytes.Equal(pushes[0].Body, given.Body) {
			t.Errorf("got %+v, want %+v", pushes, given)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// A file that ends anywhere, as after a crash, gives every push that was synced before.
func TestSpoolTornAtEveryByte(t *testing.T) {
	s := newSpool(t, t.TempDir(), 1<<30)
	all := []string{"one", "two", "three"}
	s.put(t, all...)
	path := s.now.path
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(s.state.dir)
	for n := range len(whole) + 1 {
		s.end()
		if err := os.WriteFile(path, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		s = newSpool(t, dir, 1<<30)
		s.put(t, "next")
		want(t, s.all(t), append(slices.Clone(all[:bytes.Count(whole[:n], []byte("\n"))]), "next")...)
		if aside := files(t, s, "unreadable-*"); len(aside) != 0 {
			t.Fatalf("cut at byte %d: put aside: %v", n, aside)
		}
	}
}

// A byte that the disk has changed costs the line it is in, and the next one if it was
// the end of the line. The file is kept.
func TestSpoolSpoiltAtEveryByte(t *testing.T) {
	s := newSpool(t, t.TempDir(), 1<<30)
	all := []string{"one", "two", "three", "four"}
	s.put(t, all...)
	path := s.now.path
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(s.state.dir)
	ends := bytes.Index(whole[:len(whole)-1], []byte("\n"))
	for n := range whole[:ends+1] {
		s.end()
		spoilt := slices.Clone(whole)
		spoilt[n] ^= 0x10
		if err := os.WriteFile(path, spoilt, 0o600); err != nil {
			t.Fatal(err)
		}
		s = newSpool(t, dir, 1<<30)
		got := s.all(t)
		if n < ends {
			want(t, got, all[1:]...)
		} else {
			want(t, got, all[2:]...)
		}
		aside := files(t, s, "unreadable-*")
		if len(aside) != 1 || !s.empty() {
			t.Fatalf("spoilt at byte %d: put aside: %v", n, aside)
		}
		if kept, err := os.ReadFile(aside[0]); err != nil || !bytes.Equal(kept, spoilt) {
			t.Errorf("spoilt at byte %d: the file that was put aside is another", n)
		}
		os.Remove(aside[0])
	}
}

func TestFullSpoolRefuses(t *testing.T) {
	s := newSpool(t, t.TempDir(), 300)
	s.put(t, "a")
	size := s.size
	if err := s.append([]spooled{{Account: 1, Body: bytes.Repeat([]byte("x"), 300)}}); !errors.Is(err, errSpoolFull) {
		t.Fatalf("got %v, want %v", err, errSpoolFull)
	}
	if s.size != size {
		t.Errorf("a refused push has %d bytes", s.size-size)
	}
	s.put(t, "b")
	want(t, s.all(t), "a", "b")
	s.put(t, "c")
	want(t, s.all(t), "c")
}

// A write that fails is acknowledged to nobody, and does not spoil those before and
// after it.
func TestSpoolAfterAFailedWrite(t *testing.T) {
	s := newSpool(t, t.TempDir(), 1<<30)
	s.put(t, "before")
	// A descriptor that cannot be written to fails as a full disk does.
	closed, err := os.Open(s.now.path)
	if err != nil {
		t.Fatal(err)
	}
	s.file.Close()
	s.file = closed
	if err := s.append([]spooled{{Account: 1, Body: []byte("lost")}}); err == nil {
		t.Fatal("the write did not fail")
	}
	s.put(t, "after")
	want(t, s.all(t), "before", "after")
}

func TestSpoolIsClosedToOthers(t *testing.T) {
	s := newSpool(t, filepath.Join(t.TempDir(), "state"), 1<<30)
	s.put(t, "a")
	for path, mode := range map[string]os.FileMode{filepath.Dir(s.state.dir): 0o700, s.state.dir: 0o700, s.now.path: 0o600, s.state.lock.Name(): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s has mode %v, want %v (%v)", path, info.Mode().Perm(), mode, err)
		}
	}
}

// Processes of one machine share a folder without touching each other's files, and
// what one of them left when it ended is drained by another: once, and only then.
func TestSlots(t *testing.T) {
	dir := t.TempDir()
	a, b := newSpool(t, dir, 1<<30), newSpool(t, dir, 1<<30)
	if a.state.slot != 1 || b.state.slot != 2 {
		t.Errorf("slots %d and %d, want 1 and 2", a.state.slot, b.state.slot)
	}
	if got := filepath.Base(b.state.file("journal.jsonl")); got != "journal-2.jsonl" {
		t.Errorf("the file is %s", got)
	}
	a.put(t, "from a")
	b.put(t, "from b")
	left := func(s *spool) (bodies []string) {
		if _, err := s.leftSpools(func(pushes []spooled) error {
			for _, p := range pushes {
				bodies = append(bodies, string(p.Body))
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return bodies
	}
	want(t, left(a)) // b lives
	b.end()
	c := newSpool(t, dir, 1<<30)
	if c.state.slot != 2 {
		t.Errorf("slot %d, want the free one", c.state.slot)
	}
	c.put(t, "from c")
	want(t, c.all(t), "from b", "from c")
	c.put(t, "again from c")
	c.end()
	want(t, left(a), "again from c")
	want(t, left(a))
	want(t, a.all(t), "from a")
	// Another database has its own folder.
	other, err := openState(dir, "other")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if other.slot != 1 || other.dir == a.state.dir {
		t.Errorf("slot %d in %s", other.slot, other.dir)
	}
}

// Many may spool and one drain at the same time.
func TestSpoolIsUsedByMany(t *testing.T) {
	s := newSpool(t, t.TempDir(), 1<<30)
	const writers, each = 8, 25
	var writing sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for i := range each {
				s.put(t, fmt.Sprintf("%d %d", w, i))
			}
		})
	}
	next := make(map[string]int)
	total := 0
	take := func() {
		for _, body := range s.all(t) {
			writer, _, _ := strings.Cut(body, " ")
			if wanted := fmt.Sprintf("%s %d", writer, next[writer]); body != wanted {
				t.Errorf("got %q, want %q", body, wanted)
			}
			next[writer]++
			total++
		}
	}
	for total < writers*each/2 && !t.Failed() {
		take()
	}
	writing.Wait()
	take()
	if total != writers*each {
		t.Errorf("%d pushes, want %d", total, writers*each)
	}
}

func FuzzReadSegment(f *testing.F) {
	whole := func(bodies ...string) (lines []byte) {
		for i, b := range bodies {
			var err error
			if lines, err = appendLine(lines, &spooled{Account: campaign.AccountID(i), Body: []byte(b)}); err != nil {
				f.Fatal(err)
			}
		}
		return lines
	}
	f.Add([]byte(nil), []byte(nil))
	f.Add(whole("a", "b"), whole("c")[:20])
	f.Add([]byte("00000000 {}\n\n \n"), []byte("00000000 "))
	f.Fuzz(func(t *testing.T, before, after []byte) {
		pushes, unreadable := readSegment(before)
		if n := bytes.Count(before, []byte("\n")); len(pushes)+unreadable != n {
			t.Errorf("%d pushes and %d unreadable of %d lines", len(pushes), unreadable, n)
		}
		// A good line between anything is found.
		data := slices.Concat(before, []byte("\n"), whole("good"), after)
		pushes, _ = readSegment(data)
		if !slices.ContainsFunc(pushes, func(p spooled) bool { return string(p.Body) == "good" }) {
			t.Errorf("the good line is not found in %q", data)
		}
	})
}

// BenchmarkSpool is a batch of pushes until it is synced.
func BenchmarkSpool(b *testing.B) {
	body := bytes.Repeat([]byte("r"), 600) // one report
	for _, n := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("pushes=%d", n), func(b *testing.B) {
			s := newSpool(b, b.TempDir(), 1<<40)
			pushes := slices.Repeat([]spooled{{Account: 1, ReceivedAt: time.Now(), Body: body}}, n)
			var took []time.Duration
			for b.Loop() {
				began := time.Now()
				if err := s.append(pushes); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(began))
			}
			slices.Sort(took)
			b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "pushes/s")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
		})
	}
}
