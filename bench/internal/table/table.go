// Package table judges what was measured against the goals, and shows it.
package table

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"dialer/bench/internal/chart"
)

// Runs are the figures of one thing, one for each round of an interleaved measurement.
type Runs []float64

// Median is the middle figure, of an even number the mean of the two in the middle,
// and NaN of none.
func (r Runs) Median() float64 {
	if len(r) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(r))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

// Range is the least and the greatest figure.
func (r Runs) Range() (least, most float64) {
	if len(r) == 0 {
		return math.NaN(), math.NaN()
	}
	return slices.Min(r), slices.Max(r)
}

// Over divides figure by figure: what was measured side by side is compared, so that a
// machine that is busy in one round and not in the next does not count.
func (r Runs) Over(reference Runs) Runs {
	var ratios Runs
	for i := range min(len(r), len(reference)) {
		ratios = append(ratios, r[i]/reference[i])
	}
	return ratios
}

// Row is one thing that was measured, beside its reference if it has one.
type Row struct {
	Name      string
	Unit      string // of both figures, "%" or "us of CPU"
	Ours      Runs
	Peer      string // what the reference is; "" = there is none
	Reference Runs
	Goal      Goal
}

// Goal says which figure of a row must not be below or above a bound. The zero Goal
// asks nothing: the row is there to be seen.
type Goal struct {
	ratio bool // of the ratio, not of our figure
	most  bool // the bound is the most there may be, else the least
	every bool // in every round, not only in the median of all
	bound float64
	asks  bool
}

// AtLeast and AtMost are goals of our figure, RatioAtLeast and RatioAtMost of ours by
// the reference's. The median of the rounds must reach them.
func AtLeast(bound float64) Goal      { return Goal{asks: true, bound: bound} }
func AtMost(bound float64) Goal       { return Goal{asks: true, most: true, bound: bound} }
func RatioAtLeast(bound float64) Goal { return Goal{asks: true, ratio: true, bound: bound} }
func RatioAtMost(bound float64) Goal  { return Goal{asks: true, ratio: true, most: true, bound: bound} }

// NeverAbove is a goal that our figure must reach in every round: a law, not a speed.
func NeverAbove(bound float64) Goal {
	return Goal{asks: true, most: true, every: true, bound: bound}
}

func (g Goal) String() string {
	if !g.asks {
		return ""
	}
	sign, of := ">=", ""
	if g.most {
		sign = "<="
	}
	if g.ratio {
		of = " x"
	}
	if g.every {
		of = " always"
	}
	return sign + " " + number(g.bound) + of
}

// Ratio is how our figure compares with the reference's, round by round.
func (r Row) Ratio() Runs { return r.Ours.Over(r.Reference) }

// Met tells whether the goal is met. A row without a goal meets it; one that was not
// measured does not.
func (r Row) Met() bool {
	if !r.Goal.asks {
		return true
	}
	judged := r.Ours
	if r.Goal.ratio {
		judged = r.Ratio()
	}
	figure := judged.Median()
	if r.Goal.every {
		_, figure = judged.Range()
	}
	if r.Goal.most {
		return figure <= r.Goal.bound
	}
	return figure >= r.Goal.bound // false of NaN, either way
}

// Table is what a section has measured.
type Table struct {
	Number int // of the section in the list of goals
	Title  string
	Rows   []Row
	Notes  []string // sentences below the table
	Others []Detail
	Charts []chart.Chart
}

// Detail is a table beside the goals, of figures that nobody asked to reach anything.
type Detail struct {
	Title string
	Heads []string
	Rows  [][]string
}

// Missed lists the rows whose goal is missed.
func (t Table) Missed() []Row {
	var missed []Row
	for _, r := range t.Rows {
		if !r.Met() {
			missed = append(missed, r)
		}
	}
	return missed
}

var heads = []string{"what", "unit", "ours", "reference", "", "ratio", "goal", ""}

func (r Row) cells() []string {
	ratio, verdict := "", ""
	if len(r.Ratio()) > 0 {
		ratio = r.Ratio().String()
	}
	if r.Goal.asks {
		verdict = "MISSED"
		if r.Met() {
			verdict = "met"
		}
	}
	return []string{r.Name, r.Unit, r.Ours.String(), r.Reference.String(), r.Peer, ratio, r.Goal.String(), verdict}
}

// Print writes the table for a terminal.
func (t Table) Print(w io.Writer) error {
	if _, err := fmt.Fprintf(w, "\n%d. %s\n\n", t.Number, t.Title); err != nil {
		return err
	}
	err := align(w, heads, t.cells())
	for _, n := range t.Notes {
		_, failed := fmt.Fprintf(w, "\n%s\n", n)
		err = errors.Join(err, failed)
	}
	for _, d := range t.Others {
		_, failed := fmt.Fprintf(w, "\n%s\n\n", d.Title)
		err = errors.Join(err, failed, align(w, d.Heads, d.Rows))
	}
	return err
}

func (t Table) cells() [][]string {
	var all [][]string
	for _, r := range t.Rows {
		all = append(all, r.cells())
	}
	return all
}

// align writes cells in columns.
func align(w io.Writer, heads []string, rows [][]string) error {
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, cells := range append([][]string{heads}, rows...) {
		fmt.Fprintln(tab, strings.Join(cells, "\t"))
	}
	return tab.Flush()
}

// Markdown writes the table for a page on which its charts lie beside it.
func (t Table) Markdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "\n## %d. %s\n", t.Number, t.Title)
	grid(&b, heads, t.cells())
	for _, n := range t.Notes {
		fmt.Fprintf(&b, "\n%s\n", n)
	}
	for _, d := range t.Others {
		fmt.Fprintf(&b, "\n%s\n", d.Title)
		grid(&b, d.Heads, d.Rows)
	}
	for _, c := range t.Charts {
		fmt.Fprintf(&b, "\n![%s](%s)\n", c.Title, c.File)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// grid writes cells as a table of Markdown.
func grid(b *strings.Builder, heads []string, rows [][]string) {
	fmt.Fprintf(b, "\n| %s |\n|%s\n", strings.Join(heads, " | "), strings.Repeat("---|", len(heads)))
	for _, cells := range rows {
		b.WriteByte('|')
		for _, c := range cells {
			b.WriteString(" " + strings.ReplaceAll(c, "|", `\|`) + " |")
		}
		b.WriteByte('\n')
	}
}

// String shows the median and, of several rounds, how far apart they are.
func (r Runs) String() string {
	if len(r) == 0 {
		return ""
	}
	least, most := r.Range()
	if number(least) == number(most) {
		return number(r.Median())
	}
	return fmt.Sprintf("%s (%s-%s)", number(r.Median()), number(least), number(most))
}

// number shows a figure as exactly as it says something: whole above a thousand, else
// with up to four digits.
func number(f float64) string {
	switch size := math.Abs(f); {
	case math.IsNaN(f) || math.IsInf(f, 0):
		return "not measured"
	case f == math.Trunc(f) || size >= 1000:
		return strconv.FormatFloat(f, 'f', 0, 64)
	case size >= 10:
		return strconv.FormatFloat(f, 'f', 2, 64)
	default:
		return strconv.FormatFloat(f, 'f', 3, 64)
	}
}
