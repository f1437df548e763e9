package chart

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
)

func TestChartIsDrawn(t *testing.T) {
	c := Chart{
		File: "x.svg", Title: "Ours & theirs", X: "seconds", Y: "calls < limit", Limit: 1000, LimitName: "the limit",
		Lines: []Line{{"ours", []Point{{0, 0}, {5, 1000}, {10, 500}}}, {"theirs", []Point{{0, 250}, {10, 250}}}},
		Marks: []Mark{{5, "killed"}},
	}
	var b strings.Builder
	if err := c.WriteSVG(&b); err != nil {
		t.Fatal(err)
	}
	var texts []string
	for d := xml.NewDecoder(strings.NewReader(b.String())); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("not well-formed: %v\n%s", err, &b)
		}
		if text, ok := token.(xml.CharData); ok && strings.TrimSpace(string(text)) != "" {
			texts = append(texts, string(text))
		}
	}
	for _, want := range []string{"Ours & theirs", "seconds", "calls < limit", "ours", "theirs", "the limit", "killed", "0", "10", "1000"} {
		if !slices.Contains(texts, want) {
			t.Errorf("no text %q among %q", want, texts)
		}
	}
	// The area is 280 high below 50, and 670 wide right of 70.
	for _, want := range []string{
		`clip-path="url(#area)" d="M70.0 330.0L405.0 50.0L740.0 190.0"`, // ours: from nothing to the limit to half of it
		`d="M70.0 260.0L740.0 260.0"`,                                   // theirs: a quarter of it
		`class="limit" d="M70.0 50.0H740.0"`,
		`class="mark" d="M405.0 50.0V330.0"`,
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("lacks %s:\n%s", want, &b)
		}
	}
}

func TestLogarithmicAxis(t *testing.T) {
	c := Chart{File: "x.svg", LogX: true, Lines: []Line{{"growth", []Point{{1e5, 1}, {1e6, 2}, {1e7, 3}}}}}
	xs, _, err := c.axes()
	if err != nil {
		t.Fatal(err)
	}
	if got := xs.at(1e6); math.Abs(got-(left+width-right)/2) > 0.01 {
		t.Errorf("a million is at %v, want the middle", got)
	}
	if got := xs.ticks(); len(got) != 3 {
		t.Errorf("ticks at %v, want one for each power of ten", got)
	}
	c.Lines[0].Points[0].X = 0
	if err := c.WriteSVG(io.Discard); err == nil || !strings.Contains(err.Error(), "logarithmic") {
		t.Errorf("a zero on a logarithmic axis: got %v", err)
	}
}

func TestAxisBeginsWhereAsked(t *testing.T) {
	c := Chart{YFrom: 900, Lines: []Line{{"ours", []Point{{0, 0}, {1, 1000}}}}}
	_, ys, err := c.axes()
	if err != nil || ys.from != 900 || ys.to != 1000 {
		t.Errorf("from %v to %v, %v", ys.from, ys.to, err)
	}
}

func TestEmptyChartIsAnError(t *testing.T) {
	if err := (Chart{File: "x.svg", Lines: []Line{{Name: "none"}}}).WriteSVG(io.Discard); err == nil {
		t.Error("no error")
	}
}

func TestTicks(t *testing.T) {
	for _, test := range []struct {
		to   float64
		want []float64
	}{
		{1000, []float64{0, 200, 400, 600, 800, 1000}},
		{60, []float64{0, 10, 20, 30, 40, 50, 60}},
		{0.8, []float64{0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8}},
	} {
		got := axis{to: test.to}.ticks()
		if !slices.EqualFunc(got, test.want, func(a, b float64) bool { return math.Abs(a-b) < 1e-9 }) {
			t.Errorf("to %v: got %v, want %v", test.to, got, test.want)
		}
	}
	for v, want := range map[float64]string{0: "0", 0.5: "0.5", 1000: "1000", 20_000: "20 k", 1e6: "1 M", 1e5: "100 k"} {
		if got := figure(v); got != want {
			t.Errorf("%v: got %q, want %q", v, got, want)
		}
	}
}
