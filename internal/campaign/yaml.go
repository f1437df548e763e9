package campaign

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

const (
	maxFile = 256 << 10
	// maxMerges bounds the work that a mapping merged into itself makes.
	maxMerges = 100
)

// file reads one YAML document strictly and collects every problem, each with its
// line, so that a person mends them all at once.
type file struct {
	name     string
	problems []problem
	merges   int
}

type problem struct {
	line int
	text string
}

// keys says what may stand in a mapping, and reads each value.
type keys map[string]func(*yaml.Node)

// parseFile returns the only document of a file.
func parseFile(name string, data []byte) (*file, *yaml.Node, error) {
	f := &file{name: name}
	switch {
	case len(data) > maxFile:
		return nil, nil, fmt.Errorf("%s: the file has %d bytes, more than %d", name, len(data), maxFile)
	case !utf8.Valid(data):
		return nil, nil, fmt.Errorf("%s: the file is not UTF-8; save it as UTF-8", name)
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, more yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, nil, fmt.Errorf("%s: the file is empty", name)
	} else if err != nil {
		return nil, nil, syntaxError(name, err)
	}
	if err := dec.Decode(&more); err == nil {
		return nil, nil, fmt.Errorf("%s:%d: a second document begins; write one document per file", name, more.Line)
	} else if !errors.Is(err, io.EOF) {
		return nil, nil, syntaxError(name, err)
	}
	return f, doc.Content[0], nil
}

func syntaxError(name string, err error) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if rest, ok := strings.CutPrefix(text, "line "); ok {
		if line, what, ok := strings.Cut(rest, ": "); ok {
			return fmt.Errorf("%s:%s: not valid YAML: %s", name, line, what)
		}
	}
	return fmt.Errorf("%s: not valid YAML: %s", name, text)
}

// fail notes a problem at a line.
func (f *file) fail(n *yaml.Node, format string, args ...any) {
	f.problems = append(f.problems, problem{n.Line, fmt.Sprintf(format, args...)})
}

// failAll notes problems that concern a whole section.
func (f *file) failAll(n *yaml.Node, errs ...error) {
	for _, err := range errs {
		if err != nil {
			f.fail(n, "%v", err)
		}
	}
}

// err joins the problems in the order of their lines.
func (f *file) err() error {
	slices.SortStableFunc(f.problems, func(a, b problem) int { return a.line - b.line })
	errs := make([]error, len(f.problems))
	for i, p := range f.problems {
		errs[i] = fmt.Errorf("%s:%d: %s", f.name, p.line, p.text)
	}
	return errors.Join(errs...)
}

func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias // which YAML forbids to be an alias again
	}
	return n
}

// entries returns the keys and values of a mapping, merged ones last; what is not a
// mapping, and keys that stand twice, are problems.
func (f *file) entries(n *yaml.Node, what string) ([]*yaml.Node, bool) {
	pairs := f.pairs(resolve(n), what, map[string]bool{})
	return pairs, pairs != nil
}

func (f *file) pairs(n *yaml.Node, what string, seen map[string]bool) []*yaml.Node {
	if n.Kind != yaml.MappingNode {
		f.fail(n, "%s must be a list of \"key: value\" lines", what)
		return nil
	}
	pairs, merges := make([]*yaml.Node, 0, len(n.Content)), []*yaml.Node{}
	own := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := resolve(n.Content[i]), n.Content[i+1]
		switch first, twice := own[key.Value]; {
		case key.Kind != yaml.ScalarNode:
			f.fail(key, "a key of %s must be a word", what)
		case key.Tag == "!!merge":
			merges = append(merges, value)
		case twice:
			f.fail(key, "key %q stands twice; it is already on line %d", short(key.Value), first)
		case !seen[key.Value]: // a merged key gives way to the mapping's own
			own[key.Value] = key.Line
			pairs = append(pairs, key, value)
		}
	}
	for key := range own {
		seen[key] = true
	}
	for _, m := range merges {
		m = resolve(m)
		targets := []*yaml.Node{m}
		if m.Kind == yaml.SequenceNode {
			targets = m.Content
		}
		for _, t := range targets {
			if f.merges++; f.merges == maxMerges {
				f.fail(n, "mappings are merged too often, perhaps into themselves")
			}
			if f.merges >= maxMerges {
				return pairs
			}
			pairs = append(pairs, f.pairs(resolve(t), what, seen)...)
		}
	}
	return pairs
}

// object reads a mapping whose keys are known. An unknown one is a problem, with
// the nearest known one as a hint, or with why it cannot be set.
func (f *file) object(n *yaml.Node, what string, known keys, notSettable map[string]string) map[string]*yaml.Node {
	pairs, ok := f.entries(n, what)
	if !ok {
		return nil
	}
	present := map[string]*yaml.Node{}
	for i := 0; i < len(pairs); i += 2 {
		key, value := pairs[i], resolve(pairs[i+1])
		read, ok := known[key.Value]
		if !ok {
			if why := notSettable[key.Value]; why != "" {
				f.fail(key, "%s cannot be set: %s", key.Value, why)
			} else {
				f.fail(key, "unknown key %q in %s%s", short(key.Value), what, didYouMean(key.Value, slices.Sorted(maps.Keys(known))))
			}
			continue
		}
		present[key.Value] = value
		if value.Tag == "!!null" {
			f.fail(key, "%s has no value; write one, or remove the line", key.Value)
			continue
		}
		read(value)
	}
	return present
}

// require notes the keys that are missing.
func (f *file) require(n *yaml.Node, present map[string]*yaml.Node, what string, names ...string) {
	for _, name := range names {
		if present != nil && present[name] == nil {
			f.fail(n, "%s has no %s; add it", what, name)
		}
	}
}

// list reads the items of a sequence of at most most items.
func (f *file) list(n *yaml.Node, key string, most int, read func(*yaml.Node)) {
	switch {
	case n.Kind != yaml.SequenceNode:
		f.fail(n, "%s must be a list, as [a, b]", key)
	case len(n.Content) == 0:
		f.fail(n, "%s is an empty list; fill it, or remove the line", key)
	case len(n.Content) > most:
		f.fail(n, "%s has %d items, more than %d", key, len(n.Content), most)
	default:
		for _, item := range n.Content {
			read(resolve(item))
		}
	}
}

// text reads a scalar as it is written, so that the leading 0 of a number stays.
func (f *file) text(key string, to *string, check func(string) error) func(*yaml.Node) {
	return func(n *yaml.Node) {
		if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
			f.fail(n, "%s must be a text", key)
			return
		}
		if check != nil {
			if err := check(n.Value); err != nil {
				f.fail(n, "%s: %v", key, err)
				return
			}
		}
		*to = n.Value
	}
}

func (f *file) boolean(key string, set func(bool)) func(*yaml.Node) {
	return func(n *yaml.Node) {
		if n.Kind != yaml.ScalarNode || n.Tag != "!!bool" {
			f.fail(n, "%s must be true or false", key)
			return
		}
		set(strings.EqualFold(n.Value, "true"))
	}
}

// integer reads a number in a range; unit is what it counts, for the message.
func (f *file) integer(key string, low, high int, unit string, set func(int)) func(*yaml.Node) {
	return func(n *yaml.Node) {
		v, err := strconv.Atoi(n.Value)
		if n.Kind != yaml.ScalarNode || n.Tag != "!!int" || err != nil {
			f.fail(n, "%s must be a whole number of %s between %d and %d, without a unit; found %s", key, unit, low, high, shown(n))
			return
		}
		if v < low || v > high {
			f.fail(n, "%s must lie between %d and %d %s; found %d", key, low, high, unit, v)
			return
		}
		set(v)
	}
}

// number reads a number above or at 0 that may have decimals.
func (f *file) number(key string, high float64, unit string, set func(float64)) func(*yaml.Node) {
	return func(n *yaml.Node) {
		v, err := strconv.ParseFloat(n.Value, 64)
		if n.Kind != yaml.ScalarNode || n.Tag != "!!int" && n.Tag != "!!float" || err != nil {
			f.fail(n, "%s must be a number of %s, without a unit; found %s", key, unit, shown(n))
			return
		}
		if math.IsNaN(v) || v < 0 || v > high {
			f.fail(n, "%s must lie between 0 and %v %s; found %s", key, high, unit, shown(n))
			return
		}
		set(v)
	}
}

// shown describes a value in a message.
func shown(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	return strconv.Quote(short(n.Value))
}

// short cuts a text that somebody wrote to the length of a message.
func short(s string) string {
	const most = 40
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:most]) + "…"
}

// didYouMean names the known word nearest to a wrong one, if any is near.
func didYouMean[T ~string](wrong string, known []T) string {
	if len(wrong) > 64 {
		return ""
	}
	best, distance := "", 3
	for _, k := range known {
		if d := editDistance(strings.ToLower(wrong), string(k)); d < distance && d < len(k) {
			best, distance = string(k), d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(": did you mean %q?", best)
}

// editDistance counts the letters to change, add, remove or swap with a neighbour.
func editDistance(a, b string) int {
	x, y := []rune(a), []rune(b)
	d := make([][]int, len(x)+1)
	for i := range d {
		d[i] = make([]int, len(y)+1)
		d[i][0] = i
	}
	for j := range y {
		d[0][j+1] = j + 1
	}
	for i := range x {
		for j := range y {
			change := d[i][j]
			if x[i] != y[j] {
				change++
			}
			d[i+1][j+1] = min(change, d[i][j+1]+1, d[i+1][j]+1)
			if i > 0 && j > 0 && x[i] == y[j-1] && x[i-1] == y[j] {
				d[i+1][j+1] = min(d[i+1][j+1], d[i-1][j-1]+1)
			}
		}
	}
	return d[len(x)][len(y)]
}
