package table

import (
	"math"
	"slices"
	"strings"
	"testing"
)

func TestMedianAndRange(t *testing.T) {
	for _, test := range []struct {
		runs                Runs
		median, least, most float64
	}{
		{Runs{7}, 7, 7, 7},
		{Runs{9, 1, 5}, 5, 1, 9},
		{Runs{4, 1, 2, 100}, 3, 1, 100},
	} {
		least, most := test.runs.Range()
		if test.runs.Median() != test.median || least != test.least || most != test.most {
			t.Errorf("%v: got median %v from %v to %v, want %v from %v to %v", []float64(test.runs), test.runs.Median(), least, most, test.median, test.least, test.most)
		}
	}
	if !math.IsNaN(Runs{}.Median()) {
		t.Error("nothing has a median")
	}
	runs := Runs{3, 1, 2}
	_ = runs.Median()
	if !slices.Equal(runs, Runs{3, 1, 2}) {
		t.Errorf("the median has put the rounds in another order: %v", []float64(runs))
	}
}

// A machine that was busy in the second round slowed both: the ratio does not show it.
func TestRatioIsTakenRoundByRound(t *testing.T) {
	r := Row{Ours: Runs{10, 40, 12}, Reference: Runs{20, 80, 24}}
	if got := r.Ratio(); !slices.Equal(got, Runs{0.5, 0.5, 0.5}) {
		t.Errorf("got %v, want 0.5 in each round", []float64(got))
	}
}

func TestGoals(t *testing.T) {
	for _, test := range []struct {
		name string
		row  Row
		met  bool
	}{
		{"nothing is asked", Row{Ours: Runs{1}}, true},
		{"at least, just so", Row{Ours: Runs{99, 99.8, 100}, Goal: AtLeast(99.8)}, true},
		{"at least, not quite", Row{Ours: Runs{99, 99.7, 100}, Goal: AtLeast(99.8)}, false},
		{"at most, just so", Row{Ours: Runs{1, 4, 9}, Goal: AtMost(4)}, true},
		{"at most, not quite", Row{Ours: Runs{1, 4.1, 9}, Goal: AtMost(4)}, false},
		{"a law holds in every round", Row{Ours: Runs{0, 0, 0}, Goal: NeverAbove(0)}, true},
		{"a law was broken once", Row{Ours: Runs{0, 1, 0}, Goal: NeverAbove(0)}, false},
		{"ratio at most", Row{Ours: Runs{12}, Reference: Runs{10}, Goal: RatioAtMost(1.2)}, true},
		{"ratio above", Row{Ours: Runs{13}, Reference: Runs{10}, Goal: RatioAtMost(1.2)}, false},
		{"ratio at least", Row{Ours: Runs{15}, Reference: Runs{10}, Goal: RatioAtLeast(1.5)}, true},
		{"ratio below", Row{Ours: Runs{14}, Reference: Runs{10}, Goal: RatioAtLeast(1.5)}, false},
		{"not measured", Row{Goal: AtMost(1)}, false},
		{"a law was not measured", Row{Goal: NeverAbove(1)}, false},
		{"the reference was not measured", Row{Ours: Runs{1}, Goal: RatioAtMost(1)}, false},
	} {
		if got := test.row.Met(); got != test.met {
			t.Errorf("%s: met %v, want %v", test.name, got, test.met)
		}
	}
}

func TestTableIsShown(t *testing.T) {
	table := Table{
		Number: 1, Title: "The limit",
		Rows: []Row{
			{Name: "accepted", Unit: "%", Ours: Runs{99.9, 99.8, 100}, Peer: "a bucket | 1000", Reference: Runs{50, 49.9, 50}, Goal: AtLeast(99.8)},
			{Name: "refused", Unit: "requests", Ours: Runs{0, 3, 0}, Goal: NeverAbove(0)},
		},
		Others: []Detail{{Title: "Beside it:", Heads: []string{"a", "b"}, Rows: [][]string{{"1", "2"}}}},
	}
	var text, page strings.Builder
	if err := table.Print(&text); err != nil {
		t.Fatal(err)
	}
	if err := table.Markdown(&page); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"1. The limit", "99.90 (99.80-100)", ">= 99.80", "met", "0 (0-3)", "<= 0 always", "MISSED", "Beside it:"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the text lacks %q:\n%s", want, &text)
		}
	}
	for _, want := range []string{
		"| accepted | % | 99.90 (99.80-100) | 50 (49.90-50) | a bucket \\| 1000 | 2 (1.998-2) | >= 99.80 | met |\n",
		"| refused | requests | 0 (0-3) |  |  |  | <= 0 always | MISSED |\n",
		"| a | b |\n|---|---|\n| 1 | 2 |\n",
	} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("the page lacks %q:\n%s", want, &page)
		}
	}
	if missed := table.Missed(); len(missed) != 1 || missed[0].Name != "refused" {
		t.Errorf("missed: %v, want refused alone", missed)
	}
}

func TestFiguresShowWhatTheySay(t *testing.T) {
	for f, want := range map[float64]string{
		0: "0", 3: "3", 12345.6: "12346", 99.957: "99.96", 1.0426: "1.043", 0.31: "0.310", math.NaN(): "not measured", math.Inf(1): "not measured",
	} {
		if got := number(f); got != want {
			t.Errorf("%v: got %q, want %q", f, got, want)
		}
	}
}
