package campaign

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the tests must not depend on the machine's zones

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func parseWindows(texts []string) (Windows, error) {
	ws := make(Windows, len(texts))
	for i, text := range texts {
		if err := ws[i].UnmarshalText([]byte(text)); err != nil {
			return nil, err
		}
	}
	return ws, ws.overlap()
}

func mustWindows(t testing.TB, texts ...string) Windows {
	t.Helper()
	ws, err := parseWindows(texts)
	if err != nil {
		t.Fatal(err)
	}
	return ws
}

func mustZone(t testing.TB, name string) *time.Location {
	t.Helper()
	zone, err := loadZone(name)
	if err != nil {
		t.Fatal(err)
	}
	return zone
}

func TestWindowsText(t *testing.T) {
	for _, tt := range []struct{ texts, want, err string }{
		{"09:00-12:00 14:00-20:30", `["09:00-12:00","14:00-20:30"]`, ""},
		{"00:00-24:00", `["00:00-24:00"]`, ""},
		{"22:00-02:00", `["22:00-02:00"]`, ""},
		{"22:00-00:00", `["22:00-24:00"]`, ""},
		{"22:00-24:00 00:00-02:00", `["22:00-24:00","00:00-02:00"]`, ""},
		{"09:00-12:00 12:00-13:00", `["09:00-12:00","12:00-13:00"]`, ""},
		{"9:00-12:00", "", "two digits each"},
		{"09:00–12:00", "", "two digits each"},
		{"09:00", "", "two digits each"},
		{"09:60-12:00", "", "from 00:00 to 24:00"},
		{"09:00-24:01", "", "from 00:00 to 24:00"},
		{"24:00-02:00", "", "from 00:00 to 24:00"},
		{"09:00-09:00", "", "is empty"},
		{"09:00-12:00 11:59-13:00", "", "overlap"},
		{"22:00-02:00 01:00-03:00", "", "overlap"},
		{"00:00-24:00 23:00-24:00", "", "overlap"},
		{"01:00-03:00 22:00-02:00", "", "overlap"},
	} {
		ws, err := parseWindows(strings.Fields(tt.texts))
		if err != nil || tt.err != "" {
			if err == nil || tt.err == "" || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("parseWindows(%s): error %v, want %q", tt.texts, err, tt.err)
			}
			continue
		}
		text, err := json.Marshal(ws)
		if err != nil || string(text) != tt.want {
			t.Errorf("JSON of %s is %s, %v, want %s", tt.texts, text, err, tt.want)
		}
		var back Windows
		if err := json.Unmarshal(text, &back); err != nil || !slices.Equal(back, ws) {
			t.Errorf("%s came back as %v, %v", text, back, err)
		}
	}
}

func TestWindowsOpen(t *testing.T) {
	for _, tt := range []struct{ zone, windows, at, span, next string }{
		{"Asia/Shanghai", "09:00-12:00 14:00-20:30", "2026-03-02 08:59:59", "closed", "2026-03-02 09:00:00"},
		{"Asia/Shanghai", "09:00-12:00 14:00-20:30", "2026-03-02 09:00:00", "2026-03-02 09:00:00 to 2026-03-02 12:00:00", "2026-03-02 14:00:00"},
		{"Asia/Shanghai", "09:00-12:00 14:00-20:30", "2026-03-02 11:59:59", "2026-03-02 09:00:00 to 2026-03-02 12:00:00", "2026-03-02 14:00:00"},
		{"Asia/Shanghai", "09:00-12:00 14:00-20:30", "2026-03-02 12:00:00", "closed", "2026-03-02 14:00:00"},
		{"Asia/Shanghai", "09:00-12:00 14:00-20:30", "2026-12-31 20:30:00", "closed", "2027-01-01 09:00:00"},
		{"Asia/Shanghai", "22:00-02:00", "2026-03-02 23:00:00", "2026-03-02 22:00:00 to 2026-03-03 02:00:00", "2026-03-03 22:00:00"},
		{"Asia/Shanghai", "22:00-02:00", "2026-03-03 01:59:59", "2026-03-02 22:00:00 to 2026-03-03 02:00:00", "2026-03-03 22:00:00"},
		{"Asia/Shanghai", "22:00-24:00 00:00-02:00", "2026-03-02 23:00:00", "2026-03-02 22:00:00 to 2026-03-03 02:00:00", "2026-03-03 22:00:00"},
		{"Asia/Shanghai", "09:00-12:00 12:00-13:00", "2026-03-02 10:00:00", "2026-03-02 09:00:00 to 2026-03-02 13:00:00", "2026-03-03 09:00:00"},
		{"Asia/Shanghai", "00:00-24:00", "2026-03-02 10:00:00", "2026-02-28 10:00:00 to 2026-03-04 10:00:00", "never"},
		{"Asia/Shanghai", "", "2026-03-02 10:00:00", "closed", "never"},
		// Clocks are put forward on 8 March 2026 from 2 to 3 o'clock.
		{"America/New_York", "02:30-05:00", "2026-03-08 03:00:00", "2026-03-08 03:00:00 to 2026-03-08 05:00:00", "2026-03-09 02:30:00"},
		{"America/New_York", "02:30-05:00", "2026-03-08 01:59:59", "closed", "2026-03-08 03:00:00"},
		{"America/New_York", "01:00-02:30", "2026-03-08 01:30:00", "2026-03-08 01:00:00 to 2026-03-08 03:00:00", "2026-03-09 01:00:00"},
		{"America/New_York", "02:10-02:50", "2026-03-08 01:00:00", "closed", "2026-03-09 02:10:00"},
	} {
		zone := mustZone(t, tt.zone)
		const layout = time.DateTime
		at, err := time.ParseInLocation(layout, tt.at, zone)
		if err != nil {
			t.Fatal(err)
		}
		ws := mustWindows(t, strings.Fields(tt.windows)...)
		got := "closed"
		if s, open := ws.Open(at, zone); open {
			got = s.Start.Format(layout) + " to " + s.End.Format(layout)
		}
		if got != tt.span {
			t.Errorf("%s %s at %s: %s, want %s", tt.zone, tt.windows, tt.at, got, tt.span)
		}
		next := "never"
		if n := ws.Next(at, zone); !n.IsZero() {
			next = n.Format(layout)
		}
		if next != tt.next {
			t.Errorf("%s %s after %s: next %s, want %s", tt.zone, tt.windows, tt.at, next, tt.next)
		}
	}
}

// A time that is shown twice is open twice: 1:15 to 1:45 on 1 November 2026.
func TestWindowsOpenTwice(t *testing.T) {
	zone := mustZone(t, "America/New_York")
	ws := mustWindows(t, "01:15-01:45")
	first := time.Date(2026, 11, 1, 5, 15, 0, 0, time.UTC)
	var got []time.Time
	for at := first.Add(-time.Hour); len(got) < 3; {
		at = ws.Next(at, zone)
		got = append(got, at.UTC())
	}
	if diff := cmp.Diff([]time.Time{first, first.Add(time.Hour), first.Add(25 * time.Hour)}, got); diff != "" {
		t.Error(diff)
	}
}

// The oracle asks the clock on the wall, minute by minute.
func TestWindowsAgainstTheClock(t *testing.T) {
	zones := []string{"Asia/Shanghai", "America/New_York", "Europe/London", "Australia/Lord_Howe", "Asia/Kathmandu", "Antarctica/Troll", "Africa/Casablanca", "America/Havana", "Asia/Beirut", "Pacific/Apia"}
	moves := map[string][]time.Time{}
	for _, name := range zones {
		zone := mustZone(t, name)
		for at, last := time.Date(2023, 1, 1, 0, 0, 0, 0, zone), time.Date(2027, 1, 1, 0, 0, 0, 0, zone); ; {
			_, end := at.ZoneBounds()
			if end.IsZero() || end.After(last) {
				moves[name] = append(moves[name], at)
				break
			}
			moves[name] = append(moves[name], end)
			at = end
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom(zones).Draw(t, "zone")
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		ws := drawWindows(t)
		near := rapid.SampledFrom(moves[name]).Draw(t, "clock moved")
		at := near.Add(time.Duration(rapid.IntRange(-36*60, 36*60).Draw(t, "minutes")) * time.Minute).Truncate(time.Minute)
		var calling [dayMinutes]bool // by the minute of the day: true where a window is
		for _, w := range ws {
			for m := w.From; m%dayMinutes != w.To%dayMinutes; m++ {
				calling[m%dayMinutes] = true
			}
		}
		open := func(at time.Time) bool {
			h, m, _ := at.In(zone).Clock()
			return calling[h*60+m]
		}
		want := Span{at, at}
		for open(want.Start.Add(-time.Minute)) && at.Sub(want.Start) < maxReach {
			want.Start = want.Start.Add(-time.Minute)
		}
		for open(want.End) && want.End.Sub(at) < maxReach {
			want.End = want.End.Add(time.Minute)
		}
		got, ok := ws.Open(at.Add(time.Duration(rapid.IntRange(0, 59_999).Draw(t, "ms"))*time.Millisecond), zone)
		if ok != open(at) {
			t.Fatalf("%s %v at %s: open %v, want %v", name, ws, at.In(zone), ok, open(at))
		}
		if edge := func(at time.Time) bool { return open(at) != open(at.Add(-time.Minute)) }; ok {
			if edge(want.Start) && !got.Start.Equal(want.Start) || edge(want.End) && !got.End.Equal(want.End) {
				t.Fatalf("%s %v at %s: %s to %s, want %s to %s", name, ws, at.In(zone), got.Start, got.End, want.Start, want.End)
			}
		}
		next := at.Add(time.Minute)
		for !(open(next) && !open(next.Add(-time.Minute))) && next.Sub(at) < 5*24*time.Hour {
			next = next.Add(time.Minute)
		}
		if got := ws.Next(at, zone); next.Sub(at) < 5*24*time.Hour && !got.Equal(next) {
			t.Fatalf("%s %v after %s: next %s, want %s", name, ws, at.In(zone), got, next.In(zone))
		}
	})
}

func drawWindows(t *rapid.T) Windows {
	edges := rapid.SliceOfNDistinct(rapid.IntRange(0, dayMinutes-1), 2, 6, rapid.ID).Draw(t, "edges")
	if rapid.Bool().Draw(t, "at night") { // where clocks are moved
		edges = rapid.SliceOfNDistinct(rapid.IntRange(0, 240), 2, 6, rapid.ID).Draw(t, "night edges")
	}
	slices.Sort(edges)
	var ws Windows
	for i := 0; i+1 < len(edges); i += 2 {
		ws = append(ws, Window{edges[i], edges[i+1]})
	}
	if rapid.Bool().Draw(t, "over midnight") {
		ws = append(ws, Window{edges[len(edges)-1], edges[0]})
		if len(edges)%2 != 0 {
			ws = ws[len(ws)-1:]
		}
	}
	if err := ws.overlap(); err != nil {
		t.Fatal(err)
	}
	return ws
}

func TestDurationText(t *testing.T) {
	for text, want := range map[string]time.Duration{"5m": 5 * time.Minute, "2h": 2 * time.Hour, "1h30m": 90 * time.Minute, "45s": 45 * time.Second, "10m30s": 630 * time.Second, "24h": 24 * time.Hour, "0s": 0, "1h0m5s": 3605 * time.Second} {
		var d Duration
		if err := d.UnmarshalText([]byte(text)); err != nil || time.Duration(d) != want {
			t.Errorf("%s = %v, %v", text, d, err)
		}
		out, _ := json.Marshal(d)
		var back Duration
		if err := json.Unmarshal(out, &back); err != nil || back != d || len(out) > len(text)+2 {
			t.Errorf("%s came back from %s as %v, %v", text, out, back, err)
		}
	}
	if err := new(Duration).UnmarshalText([]byte("5")); err == nil || !strings.Contains(err.Error(), "with its unit") {
		t.Errorf("a number without a unit: %v", err)
	}
}
