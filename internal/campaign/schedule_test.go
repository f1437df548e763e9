package campaign

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestScheduleValidate(t *testing.T) {
	for _, tt := range []struct{ cron, zone, err string }{
		{"0 20 * * 1-5", "Asia/Shanghai", ""},
		{"*/30 9-11 * * *", "Asia/Shanghai", ""},
		{"0 9,14 * * mon,wed", "UTC", ""},
		{"0 9 29 2 *", "Asia/Shanghai", ""},
		{"@daily", "Asia/Shanghai", ""},
		{"@every 1m", "Asia/Shanghai", ""},
		{"@every 36h", "Asia/Shanghai", ""},
		{"0 20 * * 1-5", "", "must be named"},
		{"0 20 * * 1-5", "Local", "must be named"},
		{"0 20 * * 1-5", "Asia/Shanghi", "not known"},
		{"", "UTC", "is empty"},
		{"TZ=Asia/Shanghai", "UTC", "under zone"},
		{"TZ=0", "UTC", "under zone"},
		{" TZ= 0 9 * * *", "UTC", "under zone"},
		{"CRON_TZ=Asia/Shanghai 0 9 * * *", "UTC", "under zone"},
		{"0 9 31 2 *", "UTC", "never fires"},
		{"*/90 * * * *", "UTC", "step of the minute"},
		{"0 */24 * * *", "UTC", "step of the hour"},
		{"*/0 * * * *", "UTC", "step of the minute"},
		{"9,,10 * * * *", "UTC", "empty place"},
		{",9 * * * *", "UTC", "empty place"},
		{"0 9 * * 7", "UTC", "write 0 for Sunday"},
		{"0 9 * * 5-7", "UTC", "write 0 for Sunday"},
		{"@every 59s", "UTC", "between one minute and one year"},
		{"@every -5h", "UTC", "between one minute and one year"},
		{"@every 0s", "UTC", "between one minute and one year"},
		{"@every 10000h", "UTC", "between one minute and one year"},
		{"@reboot", "UTC", "names no time"},
		{"@sometimes", "UTC", "unrecognized"},
		{"0 0 9 * * *", "UTC", "has 6 fields"},
		{"9:00", "UTC", "has 1 fields"},
		{"0 12-9 * * *", "UTC", "beyond end of range"},
		{"60 * * * *", "UTC", "above maximum"},
		{"0 9 L * *", "UTC", "failed to parse"},
		{strings.Repeat("1,", 200) + "1 * * * *", "UTC", "longer than"},
	} {
		err := Schedule{tt.cron, tt.zone}.Validate()
		if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%q in %q: error %v, want %q", tt.cron, tt.zone, err, tt.err)
		}
		if _, nextErr := (Schedule{tt.cron, tt.zone}).Next(time.Now()); (nextErr == nil) != (err == nil) {
			t.Errorf("%q in %q: Next says %v, Validate %v", tt.cron, tt.zone, nextErr, err)
		}
	}
}

func TestScheduleNextN(t *testing.T) {
	for _, tt := range []struct {
		cron, zone, after string
		want              []string
	}{
		{"0 20 * * 1-5", "Asia/Shanghai", "2026-03-05T11:59:59Z", []string{"2026-03-05T20:00:00+08:00", "2026-03-06T20:00:00+08:00", "2026-03-09T20:00:00+08:00"}},
		{"0 20 * * 1-5", "Asia/Shanghai", "2026-03-05T12:00:00Z", []string{"2026-03-06T20:00:00+08:00"}},
		{"@every 90m", "Asia/Shanghai", "2026-03-05T12:00:00Z", []string{"2026-03-05T21:30:00+08:00", "2026-03-05T23:00:00+08:00"}},
		// Put forward: the first moment that exists, once, however many were planned.
		{"30 2 * * *", "America/New_York", "2026-03-07T12:00:00Z", []string{"2026-03-08T03:00:00-04:00", "2026-03-09T02:30:00-04:00"}},
		{"*/15 2,3 * * *", "America/New_York", "2026-03-08T06:00:00Z", []string{"2026-03-08T03:00:00-04:00", "2026-03-08T03:15:00-04:00"}},
		// Put back: the first of the two.
		{"30 1 * * *", "America/New_York", "2026-11-01T00:00:00Z", []string{"2026-11-01T01:30:00-04:00", "2026-11-02T01:30:00-05:00"}},
		{"0,40 * * * *", "America/New_York", "2026-11-01T05:30:00Z", []string{"2026-11-01T01:40:00-04:00", "2026-11-01T02:00:00-05:00"}},
		{"30 1 * * *", "America/New_York", "2026-11-01T06:10:00Z", []string{"2026-11-02T01:30:00-05:00"}},
		// Half an hour, and a day without a midnight.
		{"15 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00:00Z", []string{"2026-10-04T02:30:00+11:00"}},
		{"30 0 * * *", "Asia/Beirut", "2026-03-28T12:00:00Z", []string{"2026-03-29T01:00:00+03:00", "2026-03-30T00:30:00+03:00"}},
	} {
		after, err := time.Parse(time.RFC3339, tt.after)
		if err != nil {
			t.Fatal(err)
		}
		times, err := Schedule{tt.cron, tt.zone}.NextN(after, len(tt.want))
		if err != nil {
			t.Errorf("%s in %s: %v", tt.cron, tt.zone, err)
			continue
		}
		var got []string
		for _, at := range times {
			got = append(got, at.Format(time.RFC3339))
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s in %s after %s (-want +got):\n%s", tt.cron, tt.zone, tt.after, diff)
		}
	}
}

// Every daily time around every move of the clocks of three years, against an
// oracle that walks through the day: the first moment of a date at which the clock
// shows the planned time or later is when it fires.
func TestScheduleAroundMovedClocks(t *testing.T) {
	for _, name := range []string{"America/New_York", "Europe/London", "Australia/Lord_Howe", "America/Havana", "Asia/Beirut", "Antarctica/Troll", "Africa/Casablanca", "Africa/Cairo", "Pacific/Chatham", "America/Santiago"} {
		zone := mustZone(t, name)
		for at := time.Date(2024, 1, 1, 0, 0, 0, 0, zone); ; {
			_, moved := at.ZoneBounds()
			if moved.IsZero() || moved.Year() > 2026 {
				break
			}
			at = moved
			for _, date := range []time.Time{moved.Add(-12 * time.Hour), moved.Add(12 * time.Hour)} {
				y, m, d := date.In(zone).Date()
				checkDay(t, zone, y, m, d)
			}
		}
	}
}

func checkDay(t *testing.T, zone *time.Location, y int, m time.Month, d int) {
	t.Helper()
	// The first moment of the date, and the first at which each minute has come.
	begin := time.Date(y, m, d, 12, 0, 0, 0, zone)
	for begin.Add(-time.Minute).Day() == d {
		begin = begin.Add(-time.Minute)
	}
	var fires [dayMinutes]time.Time
	reached := 0
	for at := begin; at.Day() == d; at = at.Add(time.Minute) {
		for ; reached <= at.Hour()*60+at.Minute(); reached++ {
			fires[reached] = at
		}
	}
	for minute := 0; minute < reached; minute += 15 {
		s := Schedule{fmt.Sprintf("%d %d %d %d *", minute%60, minute/60, d, m), zone.String()}
		got, err := s.Next(begin.Add(-time.Second))
		if err != nil || !got.Equal(fires[minute]) {
			t.Fatalf("%s in %s: %s, %v, want %s", s.Cron, s.Zone, got, err, fires[minute])
		}
		if again, err := s.Next(got); err != nil || again.Sub(got) < 300*24*time.Hour {
			t.Fatalf("%s in %s fires at %s and again at %s, %v", s.Cron, s.Zone, got, again, err)
		}
	}
}

func TestScheduleJSON(t *testing.T) {
	text, err := json.Marshal(Schedule{"0 20 * * 1-5", "Asia/Shanghai"})
	if want := `{"cron":"0 20 * * 1-5","zone":"Asia/Shanghai"}`; err != nil || string(text) != want {
		t.Errorf("got %s, %v, want %s", text, err, want)
	}
}

func FuzzSchedule(f *testing.F) {
	for _, s := range []string{"0 20 * * 1-5", "TZ=0", "@every 1m", "9,,10 * * * *", "*/90 * * * *", "0 9 31 2 *", "*/7 2 29 2 ?", "CRON_TZ=x"} {
		f.Add(s, int64(1_700_000_000))
	}
	f.Fuzz(func(t *testing.T, spec string, after int64) {
		s := Schedule{spec, "America/New_York"}
		from := time.Unix(after%(1<<33), 0)
		times, err := s.NextN(from, 3)
		if err != nil {
			return
		}
		for _, at := range times {
			if !at.After(from) || at.Sub(from) < time.Minute && from != time.Unix(after%(1<<33), 0) {
				t.Fatalf("%q fires at %s after %s", spec, at, from)
			}
			from = at
		}
	})
}
