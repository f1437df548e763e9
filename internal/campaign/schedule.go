package campaign

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// Schedule says when a campaign starts by itself: a cron line of five fields
// (minute, hour, day of month, month, day of week), a name such as @daily, or
// @every with a duration of at least a minute. Fields follow robfig/cron: when day
// of month and day of week are both restricted, either suffices.
//
// Where clocks are put forward over a planned time, it fires at the first moment
// that exists; where they are put back, at the first of the two. Each planned time
// fires once. A zero Schedule is not valid.
type Schedule struct {
	Cron string `yaml:"cron" json:"cron"`
	// Zone is the IANA name of the time zone; ParseCampaign fills in the campaign's.
	Zone string `yaml:"zone" json:"zone"`
}

const (
	minPeriod = time.Minute
	maxPeriod = 366 * 24 * time.Hour
	maxSpec   = 200
)

// Validate says in a sentence what is wrong with the schedule.
func (s Schedule) Validate() error {
	_, _, err := s.plan()
	return err
}

func (s Schedule) plan() (cron.Schedule, *time.Location, error) {
	zone, err := loadZone(s.Zone)
	if err != nil {
		return nil, nil, err
	}
	plan, err := parseCron(s.Cron)
	if err != nil {
		return nil, nil, err
	}
	if every, ok := plan.(cron.ConstantDelaySchedule); ok {
		if every.Delay < minPeriod || every.Delay > maxPeriod {
			return nil, nil, fmt.Errorf("schedule %q: the period must lie between one minute and one year", short(s.Cron))
		}
	} else if plan.Next(time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return nil, nil, fmt.Errorf("schedule %q never fires: no date fits its day and month", short(s.Cron))
	}
	return plan, zone, nil
}

// Next returns the first firing after a moment, in the schedule's zone. It returns
// an error if the schedule is not valid or does not fire within five years.
func (s Schedule) Next(after time.Time) (time.Time, error) {
	plan, zone, err := s.plan()
	if err != nil {
		return time.Time{}, err
	}
	after = after.In(zone)
	if _, ok := plan.(cron.ConstantDelaySchedule); ok {
		return plan.Next(after), nil
	}
	// The library skips a firing that falls into a gap and doubles one that falls
	// into an overlap. So it is asked in UTC, where neither exists,
	// about what the clock on the wall shows.
	wall := time.Date(after.Year(), after.Month(), after.Day(), after.Hour(), after.Minute(), after.Second(), 0, time.UTC)
	for {
		if wall = plan.Next(wall); wall.IsZero() {
			return time.Time{}, fmt.Errorf("schedule %q does not fire within five years", short(s.Cron))
		}
		if t := firstMoment(wall, zone); t.After(after) {
			return t, nil
		}
	}
}

// NextN returns the first n firings after a moment, for a person to look at before
// saving.
func (s Schedule) NextN(after time.Time, n int) ([]time.Time, error) {
	times := make([]time.Time, 0, n)
	for range n {
		t, err := s.Next(after)
		if err != nil {
			return nil, err
		}
		times, after = append(times, t), t
	}
	return times, nil
}

// firstMoment returns the first moment at which clocks in a zone show what wall
// shows in UTC, or, if they never do, the moment at which they jump over it.
func firstMoment(wall time.Time, zone *time.Location) time.Time {
	t := time.Date(wall.Year(), wall.Month(), wall.Day(), wall.Hour(), wall.Minute(), wall.Second(), 0, zone)
	from, to := t.ZoneBounds()
	_, offset := t.Zone()
	shown := t.Unix() + int64(offset)
	switch {
	case shown > wall.Unix(): // Date went past the gap
		return from
	case shown < wall.Unix(): // Date stayed before the gap
		return to
	case from.IsZero():
		return t
	}
	// The same time may have been shown before the clocks were put back.
	_, before := from.Add(-time.Second).Zone()
	if earlier := time.Unix(wall.Unix()-int64(before), 0).In(zone); earlier.Before(from) {
		return earlier
	}
	return t
}

// parseCron parses a cron line, and refuses what the library accepts but cannot
// be meant, and what it panics on ("TZ=0").
func parseCron(spec string) (plan cron.Schedule, err error) {
	defer func() {
		if p := recover(); p != nil {
			plan, err = nil, fmt.Errorf("schedule %q cannot be read", short(spec))
		}
	}()
	if err := checkCron(spec); err != nil {
		return nil, err
	}
	if plan, err = cron.ParseStandard(spec); err != nil {
		return nil, fmt.Errorf("schedule %q: %w", short(spec), err)
	}
	return plan, nil
}

func checkCron(spec string) error {
	upper := strings.ToUpper(strings.TrimSpace(spec))
	switch {
	case upper == "":
		return errors.New(`the schedule is empty; write five fields, as "0 20 * * 1-5"`)
	case len(spec) > maxSpec:
		return fmt.Errorf("the schedule is longer than %d characters", maxSpec)
	case strings.HasPrefix(upper, "TZ="), strings.HasPrefix(upper, "CRON_TZ="):
		return errors.New("the schedule holds a time zone; write it under zone, not in the cron line")
	case strings.HasPrefix(upper, "@REBOOT"):
		return errors.New("@reboot names no time; write five fields, as \"0 20 * * 1-5\"")
	case upper[0] == '@':
		return nil
	}
	fields := strings.Fields(spec)
	if len(fields) != 5 {
		return fmt.Errorf("schedule %q has %d fields; write five: minute, hour, day of month, month, day of week", short(spec), len(fields))
	}
	names := []string{"minute", "hour", "day of month", "month", "day of week"}
	reach := []int{59, 23, 30, 11, 6} // the largest step that reaches a second value
	for i, field := range fields {
		for part := range strings.SplitSeq(field, ",") {
			_, step, hasStep := strings.Cut(part, "/")
			switch n := atoi(step); {
			case part == "":
				return fmt.Errorf("schedule %q: the %s has an empty place in its list", short(spec), names[i])
			case hasStep && (n < 1 || n > reach[i]):
				return fmt.Errorf("schedule %q: the step of the %s must lie between 1 and %d", short(spec), names[i], reach[i])
			case i == 4 && strings.Contains(part, "7"):
				return fmt.Errorf("schedule %q: days of the week go from 0 (Sunday) to 6; write 0 for Sunday", short(spec))
			}
		}
	}
	return nil
}

// atoi reads a short run of digits, and gives -1 for anything else.
func atoi(s string) int {
	if s == "" || len(s) > 9 {
		return -1
	}
	n := 0
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return -1
		}
		n = n*10 + int(c-'0')
	}
	return n
}
