package campaign

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"time"
)

// Windows are the times of day at which calling is allowed. They do not overlap.
// No windows: never open.
type Windows []Window

// Window is one time of day, from the first minute to the minute before To, both
// in minutes after local midnight: 0 <= From < 1440, 0 < To <= 1440. To below From
// reaches over midnight. As text it is "09:00-12:00", "22:00-02:00" over midnight,
// "00:00-24:00" for always.
type Window struct{ From, To int }

// Span is one stretch of time in which calling is allowed: Start belongs to it,
// End does not.
type Span struct{ Start, End time.Time }

const (
	dayMinutes = 24 * 60
	daySeconds = 24 * 60 * 60
	// maxReach is how far Open looks to either side for the edge of a span: longer
	// than any day can be, so that only windows without an edge reach it.
	maxReach = 48 * time.Hour
	// maxSearch is how far Next looks: a window can be missing for a day or two when
	// clocks are put forward or a calendar day is skipped, not longer.
	maxSearch = 10 * 24 * time.Hour
)

var windowForm = regexp.MustCompile(`^(\d{2}):(\d{2})-(\d{2}):(\d{2})$`)

// UnmarshalText reads "09:00-12:00".
func (w *Window) UnmarshalText(text []byte) error {
	m := windowForm.FindSubmatch(text)
	if m == nil {
		return fmt.Errorf("window %q: write two times of day with two digits each, as \"09:00-12:00\"", short(string(text)))
	}
	from, okFrom := minuteOf(m[1], m[2])
	to, okTo := minuteOf(m[3], m[4])
	if to == 0 {
		to = dayMinutes
	}
	switch {
	case !okFrom || !okTo || from == dayMinutes:
		return fmt.Errorf("window %q: a day goes from 00:00 to 24:00", text)
	case from == to:
		return fmt.Errorf("window %q is empty; for the whole day write \"00:00-24:00\"", text)
	}
	*w = Window{from, to}
	return nil
}

func minuteOf(hour, minute []byte) (int, bool) {
	h, _ := strconv.Atoi(string(hour)) // two digits, by windowForm
	m, _ := strconv.Atoi(string(minute))
	return h*60 + m, m < 60 && h*60+m <= dayMinutes
}

// MarshalText writes "09:00-12:00".
func (w Window) MarshalText() ([]byte, error) { return []byte(w.String()), nil }

// String returns "09:00-12:00".
func (w Window) String() string {
	return fmt.Sprintf("%02d:%02d-%02d:%02d", w.From/60, w.From%60, w.To/60, w.To%60)
}

// overlap says which two windows share a minute; ParseCampaign refuses them.
func (ws Windows) overlap() error {
	var owner [dayMinutes]int
	for i, w := range ws {
		for m := w.From; m != w.To%dayMinutes || m == w.From; m = (m + 1) % dayMinutes {
			if owner[m] != 0 {
				return fmt.Errorf("windows %s and %s overlap; write them as one", ws[owner[m]-1], w)
			}
			owner[m] = i + 1
			if (m+1)%dayMinutes == w.From {
				break // the whole day
			}
		}
	}
	return nil
}

// contains reports whether a second of the local day lies in a window.
func (ws Windows) contains(second int) bool {
	m := second / 60
	return slices.ContainsFunc(ws, func(w Window) bool {
		if w.From < w.To {
			return w.From <= m && m < w.To
		}
		return w.From <= m || m < w.To
	})
}

// Open returns the span around at, and whether there is one. What counts is what a
// clock in the zone shows: where clocks are put forward over the beginning of a
// window, it begins at the first moment that exists; where they are put back, a
// time that comes twice is open twice. Windows that touch are one span; a span
// without edges is cut 48 hours to either side of at.
func (ws Windows) Open(at time.Time, zone *time.Location) (Span, bool) {
	at = at.In(zone)
	if !ws.contains(secondOfDay(at)) {
		return Span{}, false
	}
	s := Span{Start: at.Add(-maxReach), End: at.Add(maxReach)}
	for t := at; ; {
		t = ws.edgeAfter(t)
		if t.After(s.End) {
			break
		}
		if !ws.contains(secondOfDay(t)) {
			s.End = t
			break
		}
	}
	for t := at; ; {
		edge := ws.edgeUpTo(t)
		if edge.Before(s.Start) {
			break
		}
		t = edge.Add(-time.Second)
		if !ws.contains(secondOfDay(t)) {
			s.Start = edge
			break
		}
	}
	return s, true
}

// Next returns the first moment after after at which calling becomes allowed: if a
// span is open, the beginning of the one that follows. It returns the zero time if
// there is none, because no window ever opens or none ever closes.
func (ws Windows) Next(after time.Time, zone *time.Location) time.Time {
	t := after.In(zone)
	open := ws.contains(secondOfDay(t))
	for len(ws) > 0 && t.Sub(after) < maxSearch {
		t = ws.edgeAfter(t)
		was := open
		open = ws.contains(secondOfDay(t))
		if open && !was {
			return t
		}
	}
	return time.Time{}
}

func secondOfDay(t time.Time) int {
	h, m, s := t.Clock()
	return h*3600 + m*60 + s
}

// edgeAfter returns the first moment after t at which the clock reaches a window's
// edge or is moved.
func (ws Windows) edgeAfter(t time.Time) time.Time {
	t = t.Truncate(time.Second)
	s, wait := secondOfDay(t), daySeconds
	for _, w := range ws {
		for _, edge := range []int{w.From, w.To} {
			wait = min(wait, (edge*60-s-1+2*daySeconds)%daySeconds+1)
		}
	}
	next := t.Add(time.Duration(wait) * time.Second)
	if _, moved := t.ZoneBounds(); !moved.IsZero() && moved.Before(next) {
		return moved
	}
	return next
}

// edgeUpTo returns the last moment up to t at which the clock reached a window's
// edge or was moved.
func (ws Windows) edgeUpTo(t time.Time) time.Time {
	t = t.Truncate(time.Second)
	s, since := secondOfDay(t), daySeconds
	for _, w := range ws {
		for _, edge := range []int{w.From, w.To} {
			since = min(since, (s-edge*60+daySeconds)%daySeconds)
		}
	}
	last := t.Add(-time.Duration(since) * time.Second)
	if moved, _ := t.ZoneBounds(); !moved.IsZero() && moved.After(last) {
		return moved
	}
	return last
}

// loadZone returns the zone of an IANA name.
func loadZone(name string) (*time.Location, error) {
	if name == "" || name == "Local" {
		return nil, errors.New(`the zone must be named, as "Asia/Shanghai"`)
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("zone %q is not known; write an IANA name such as \"Asia/Shanghai\"", short(name))
	}
	return zone, nil
}
