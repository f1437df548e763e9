// Package wire measures section 2 of the goals: what a call costs on its way to the
// platform, and how many connections it takes.
package wire

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"dialer/bench/internal/lab"
	"dialer/bench/internal/node"
	"dialer/bench/internal/platform"
	"dialer/bench/internal/sender"
	"dialer/bench/internal/table"
)

// Section is the wire.
var Section = lab.Section{Number: 2, Name: "wire", Title: "The wire: what a call costs when nothing but the machine is the limit", Run: run}

// senders is how many requests are made at once, by each program. It is enough for a
// node to make its intents in batches as large as it likes best.
const senders = 200

// far is a limit that no program here reaches.
const far = 100_000

// clients are compared with one another: ours, a call signed by hand, the official one.
var clients = []string{"ours", "bare", "sdk"}

func run(ctx context.Context, l *lab.Lab) (t table.Table, err error) {
	p, err := platform.Start(platform.Options{Limit: far})
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	l.Say("build the dialer, import contacts")
	site, err := node.Open(ctx, l, p, node.Options{Limit: far, Contacts: lab.Either(l, 60_000, 250_000)})
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, site.Close()) }()

	cpu, conns, rate := make([]table.Runs, 3), make([]table.Runs, 3), make([]table.Runs, 3)
	var process, whole, pace table.Runs
	for round := range l.Rounds() {
		for i, client := range clients {
			l.Say("client %s, round %d", client, round+1)
			r, opened, err := saturate(ctx, client, lab.Either(l, 1500*time.Millisecond, 3*time.Second))
			if err != nil {
				return t, err
			}
			cpu[i], conns[i] = append(cpu[i], r.CPUPerCall()), append(conns[i], opened)
			rate[i] = append(rate[i], float64(r.Accepted)/r.Ended.Sub(r.Began).Seconds())
		}
		l.Say("the whole dialer, round %d", round+1)
		m, err := dial(ctx, site, lab.Either(l, 2*time.Second, 4*time.Second))
		if err != nil {
			return t, err
		}
		process, whole, pace = append(process, m.CPU), append(whole, m.CPU+m.Postgres), append(pace, m.PerSecond)
	}
	const us, byHand = "us of CPU per call", "signed by hand, net/http"
	t.Rows = []table.Row{
		{Name: "saturated sender, our client", Unit: us, Ours: cpu[0], Peer: byHand, Reference: cpu[1]},
		{Name: "saturated sender, our client", Unit: us, Ours: cpu[0], Peer: "official SDK, generic client", Reference: cpu[2]},
		{Name: "saturated dialer, its process alone", Unit: us, Ours: process, Peer: byHand, Reference: cpu[1]},
		{Name: "saturated dialer, database included", Unit: us, Ours: whole, Peer: byHand, Reference: cpu[1], Goal: table.RatioAtMost(1.4)},
		{Name: "saturated dialer, database included", Unit: us, Ours: whole, Peer: "official SDK, generic client", Reference: cpu[2], Goal: table.RatioAtMost(0.4)},
		{Name: fmt.Sprintf("connections opened by %d senders", senders), Unit: "connections", Ours: conns[0], Peer: "official SDK, generic client", Reference: conns[2], Goal: table.NeverAbove(senders + 2)},
		{Name: "calls made, our client", Unit: "per second", Ours: rate[0], Peer: byHand, Reference: rate[1]},
		{Name: "calls made, whole dialer", Unit: "per second", Ours: pace, Peer: byHand, Reference: rate[1]},
	}
	return t, nil
}

// saturate lets a client make as many calls as it can, and counts its connections.
func saturate(ctx context.Context, client string, d time.Duration) (r sender.Result, conns float64, err error) {
	p, err := platform.Start(platform.Options{Limit: far})
	if err != nil {
		return r, 0, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	if r, err = sender.Run(ctx, sender.Options{Endpoint: p.URL, Client: client, Senders: senders, For: d}); err != nil {
		return r, 0, err
	}
	report, err := p.Report()
	return r, float64(report.Conns), err
}

// dial lets the whole dialer make as many calls as it can.
func dial(ctx context.Context, s *node.Site, d time.Duration) (m node.Span, err error) {
	n, err := s.Start("saturated", "--senders", strconv.Itoa(senders))
	if err != nil {
		return m, err
	}
	if err := s.Dialling(ctx, 100); err != nil {
		return m, err
	}
	if m, err = n.Watch(ctx, d); err != nil {
		return m, err
	}
	return m, n.Stop()
}
