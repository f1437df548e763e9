package limit

import (
	"context"
	"fmt"
	"time"

	"dialer/bench/internal/chart"
	"dialer/bench/internal/lab"
	"dialer/bench/internal/platform"
	"dialer/bench/internal/sender"
	"dialer/bench/internal/table"
	"dialer/internal/simulator"
)

// condition is what makes it hard to keep to the limit.
type condition struct {
	name    string
	server  platform.Options
	busy    bool          // every core is taken by somebody else
	goal    float64       // accepted, in percent of the limit
	settled time.Duration // from when on
	file    string        // of the picture; "" = none
	from    float64       // where its Y axis begins
}

const idlePicture = "limit-idle.svg"

var conditions = []condition{
	{name: "idle machine", goal: 99.8, settled: time.Second, file: idlePicture, from: 900},
	{name: "busy cores", busy: true, goal: 99, settled: time.Second},
	{name: "refused ones count", server: platform.Options{RefusedCount: true}, goal: 99, settled: 2 * time.Second, file: "limit-counted.svg"},
	{name: "answers take 20-30 ms", server: platform.Options{Delay: simulator.Range{Min: 20 * time.Millisecond, Max: 30 * time.Millisecond}}, goal: 98.5, settled: time.Second},
	{name: "fixed seconds", server: platform.Options{FixedWindow: true}, goal: 99.8, settled: time.Second},
}

// contestant is a pacer with its settings.
type contestant struct {
	name    string
	options sender.Options
}

// contestants begin with ours; the next is what goals are compared with.
var contestants = []contestant{
	{"pace and guard", sender.Options{Pacer: sender.Ours, Rate: limit}},
	{"x/time/rate 1000, burst 1", sender.Options{Pacer: sender.XRate, Rate: limit, Burst: 1}},
	{"x/time/rate 980, burst 10", sender.Options{Pacer: sender.XRate, Rate: 980, Burst: 10}},
	{"vegeta pacer 1000", sender.Options{Pacer: sender.Vegeta, Rate: limit}},
	{"uber-go/ratelimit 1000", sender.Options{Pacer: sender.Uber, Rate: limit}},
	{"x/time/rate 1000, burst 1000", sender.Options{Pacer: sender.XRate, Rate: limit, Burst: limit}},
}

// pacers has ours and its peers send at the limit under each condition.
func pacers(ctx context.Context, l *lab.Lab, t *table.Table) error {
	all := table.Detail{
		Title: "Pacers alone, each with the dialer's own client:",
		Heads: []string{"condition", "pacer", "accepted, % of the limit", "refused per 1000", "worst second"},
	}
	for i, c := range conditions {
		peers := contestants
		switch {
		case i == 0:
		case l.Full:
			// The others have been seen by now; the time is better spent on rounds.
			peers = contestants[:4]
		default:
			peers = contestants[:2]
		}
		figures, err := compare(ctx, l, c, peers)
		if err != nil {
			return err
		}
		ours, plain := figures[0], figures[1]
		t.Rows = append(t.Rows,
			table.Row{Name: c.name + ": accepted", Unit: "% of the limit", Ours: ours.share, Peer: peers[1].name, Reference: plain.share, Goal: table.AtLeast(c.goal)},
			table.Row{Name: c.name + ": refused", Unit: "requests per 1000", Ours: ours.refused, Peer: peers[1].name, Reference: plain.refused, Goal: table.NeverAbove(0)},
			table.Row{Name: c.name + ": worst second", Unit: "requests", Ours: ours.worst, Peer: peers[1].name, Reference: plain.worst, Goal: table.NeverAbove(limit)})
		picture := chart.Chart{
			File: c.file, Title: "Accepted by a strict server of 1000 per second: " + c.name,
			X: "seconds", Y: "calls accepted per second", Limit: limit, LimitName: "the limit", YFrom: c.from,
		}
		for j, f := range figures {
			all.Rows = append(all.Rows, []string{c.name, peers[j].name, f.share.String(), f.refused.String(), f.worst.String()})
			if peers[j].options.Burst < limit { // 2000 in the first second would make the others look alike
				picture.Lines = append(picture.Lines, chart.Line{Name: peers[j].name, Points: f.curve})
			}
		}
		if c.file != "" {
			t.Charts = append(t.Charts, picture)
		}
	}
	t.Others = append(t.Others, all)
	return nil
}

// figures are those of one contestant, round by round.
type figures struct {
	share, refused, worst table.Runs
	curve                 []chart.Point // of the first round
}

// compare runs the contestants in turn, round by round.
func compare(ctx context.Context, l *lab.Lab, c condition, peers []contestant) ([]figures, error) {
	all := make([]figures, len(peers))
	for round := range l.Rounds() {
		l.Say("%s, round %d", c.name, round+1)
		for i, peer := range peers {
			peer.options.For = c.lasts(l, i == 0)
			m, err := c.run(ctx, peer.options)
			if err != nil {
				return nil, fmt.Errorf("%s, %s: %w", c.name, peer.name, err)
			}
			if i == 0 && m.worst > limit {
				l.Say("%s: %v requests in a second, the least round trip was %s", c.name, m.worst, m.trip)
			}
			f := &all[i]
			f.share, f.worst = append(f.share, m.share), append(f.worst, m.worst)
			f.refused = append(f.refused, m.refused/peer.options.For.Seconds()*1000/limit)
			if round == 0 {
				f.curve = m.curve
			}
		}
	}
	// A picture ends when the first of its lines does.
	for i := range all {
		for n := len(all[i].curve) - 1; n >= 0 && all[i].curve[n].X > c.lasts(l, false).Seconds(); n-- {
			all[i].curve = all[i].curve[:n]
		}
	}
	return all, nil
}

// lasts is how long a run is. Those of ours on an idle machine, with those of the whole
// dialer, come to more than a minute.
func (c condition) lasts(l *lab.Lab, ours bool) time.Duration {
	switch {
	case ours && c.file == idlePicture:
		return lab.Either(l, 4*time.Second, 15*time.Second)
	case c.file == idlePicture:
		return lab.Either(l, 2*time.Second, 3*time.Second)
	case ours:
		return c.settled + lab.Either(l, time.Second, 3*time.Second)
	}
	return c.settled + lab.Either(l, 500*time.Millisecond, time.Second)
}

func (c condition) run(ctx context.Context, o sender.Options) (paced, error) {
	if c.busy {
		stop, err := takeCores()
		if err != nil {
			return paced{}, err
		}
		defer stop()
	}
	return pace(ctx, c.server, o, c.settled)
}
