package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dialer/bench/internal/chart"
	"dialer/bench/internal/lab"
	"dialer/bench/internal/platform"
	"dialer/bench/internal/sender"
	"dialer/bench/internal/table"
)

// TestMain lets this test be the programs that it starts, as the bench itself is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		if program, ok := programs[os.Args[1]]; ok {
			if err := program(context.Background(), os.Args[2:]); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			return
		}
	}
	os.Exit(m.Run())
}

// Every client makes calls that the strict platform accepts, and every pacer lets
// calls through; how many is not the test's affair.
func TestSendersReachThePlatform(t *testing.T) {
	p, err := platform.Start(platform.Options{Limit: 100_000})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}()
	var accepted int64
	for i, o := range []sender.Options{
		{Client: "ours", Pacer: sender.Ours, Rate: 500},
		{Client: "bare", Pacer: sender.XRate, Rate: 500, Burst: 5},
		{Client: "sdk", Pacer: sender.Uber, Rate: 500},
		{Client: "ours", Pacer: sender.Vegeta, Rate: 500},
	} {
		o.Endpoint, o.Senders, o.For = p.URL, 4, 200*time.Millisecond
		r, err := sender.Run(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if r.Failed > 0 || r.Throttled > 0 || r.CPU <= 0 {
			t.Errorf("sender %d: %d failed (%s), %d throttled, CPU %s", i, r.Failed, r.Failure, r.Throttled, r.CPU)
		}
		accepted += r.Accepted
	}
	report, err := p.Report()
	if err != nil {
		t.Fatal(err)
	}
	if st := report.Stats; st.Accepted != accepted || st.Requests != accepted {
		t.Errorf("the platform accepted %d of %d requests; the senders know of %d", st.Accepted, st.Requests, accepted)
	}
	if last := report.Samples[len(report.Samples)-1]; last.Accepted != accepted || report.Conns < 4 {
		t.Errorf("the last sample knows of %d of %d calls; %d connections", last.Accepted, accepted, report.Conns)
	}
}

func TestAStormBeginsAndEnds(t *testing.T) {
	p, err := platform.Start(platform.Options{Limit: 100_000})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	o := sender.Options{Endpoint: p.URL, Client: "bare", Senders: 2, For: 100 * time.Millisecond}
	if err := p.Throttle(1); err != nil {
		t.Fatal(err)
	}
	if r, err := sender.Run(t.Context(), o); err == nil || r.Throttled == 0 {
		t.Errorf("in the storm: %d accepted, %d throttled, %v", r.Accepted, r.Throttled, err)
	}
	if err := p.Throttle(0); err != nil {
		t.Fatal(err)
	}
	if r, err := sender.Run(t.Context(), o); err != nil || r.Throttled != 0 {
		t.Errorf("after it: %d accepted, %d throttled, %v", r.Accepted, r.Throttled, err)
	}
}

func TestSectionsAreChosen(t *testing.T) {
	all, err := choose("")
	if err != nil || len(all) != len(sections) {
		t.Errorf("without a name: %d of %d sections, %v", len(all), len(sections), err)
	}
	two, err := choose("wire,limit")
	if err != nil || len(two) != 2 || two[0].Name != "wire" || two[1].Name != "limit" {
		t.Errorf("two of them: %v, %v", two, err)
	}
	if _, err := choose("wire,nothing"); err == nil || !strings.Contains(err.Error(), `"nothing"`) {
		t.Errorf("one that is not there: %v", err)
	}
}

// A missed goal fails the full form only.
func TestVerdict(t *testing.T) {
	tables := []table.Table{{Number: 1, Rows: []table.Row{{Name: "refused", Ours: table.Runs{1}, Goal: table.NeverAbove(0)}}}}
	if err := judge(tables, true); err == nil || !strings.Contains(err.Error(), "1. refused") {
		t.Errorf("full form: %v", err)
	}
	if err := judge(tables, false); err != nil {
		t.Errorf("short form: %v", err)
	}
}

// What one section has measured is kept when the next one fails.
func TestMeasuredIsShownThoughASectionFails(t *testing.T) {
	l, err := lab.Open(false, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	row := table.Row{Name: "calls", Ours: table.Runs{1}}
	tables, err := measure(t.Context(), l, []lab.Section{
		{Number: 1, Name: "good", Run: func(context.Context, *lab.Lab) (table.Table, error) {
			return table.Table{Rows: []table.Row{row}}, nil
		}},
		{Number: 2, Name: "bad", Run: func(context.Context, *lab.Lab) (table.Table, error) {
			return table.Table{Rows: []table.Row{row}}, os.ErrNotExist
		}},
	})
	if len(tables) != 2 || tables[0].Number != 1 || len(tables[1].Rows) != 1 || err == nil || !strings.Contains(err.Error(), "section bad") {
		t.Errorf("got %+v, %v", tables, err)
	}
}

func TestResultsAreWritten(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "results")
	drawn := chart.Chart{File: "growth.svg", Title: "Growth", Lines: []chart.Line{{Name: "ours", Points: []chart.Point{{X: 1, Y: 2}}}}}
	if err := write(t.Context(), folder, false, []table.Table{{Number: 3, Title: "The store", Charts: []chart.Chart{drawn}}}); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(folder, "results.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"## 3. The store", "![Growth](growth.svg)", "short form", "cores of", "postgres", "go1."} {
		if !strings.Contains(strings.ToLower(string(page)), strings.ToLower(want)) {
			t.Errorf("results.md lacks %q:\n%s", want, page)
		}
	}
	if picture, err := os.ReadFile(filepath.Join(folder, "growth.svg")); err != nil || !strings.HasPrefix(string(picture), "<svg") {
		t.Errorf("the picture: %.40q, %v", picture, err)
	}
}
