package chart

import (
	"errors"
	"fmt"
	"math"
)

// axis maps values to places in the picture.
type axis struct {
	from, to   float64 // values
	start, end float64 // places
	log        bool
}

// axes fit the chart's points. Y begins where the chart says, else at 0, or below if
// there is something.
func (c Chart) axes() (xs, ys axis, err error) {
	xs = axis{from: math.Inf(1), to: math.Inf(-1), start: left, end: width - right, log: c.LogX}
	ys = axis{to: c.Limit, start: top + areaHigh, end: top}
	for _, l := range c.Lines {
		for _, p := range l.Points {
			if c.LogX && p.X <= 0 {
				return xs, ys, fmt.Errorf("chart %s: %v has no place on a logarithmic axis", c.File, p.X)
			}
			xs.from, xs.to = min(xs.from, p.X), max(xs.to, p.X)
			ys.from, ys.to = min(ys.from, p.Y), max(ys.to, p.Y)
		}
	}
	if xs.from > xs.to {
		return xs, ys, errors.New("chart " + c.File + ": there is no point to draw")
	}
	if xs.from == xs.to {
		xs.to++
	}
	if c.YFrom != 0 {
		ys.from = min(c.YFrom, ys.to)
	}
	if ys.from == ys.to {
		ys.to++
	}
	step := ys.step()
	ys.to = math.Ceil(ys.to/step*(1-1e-9)) * step
	ys.from = math.Floor(ys.from/step) * step
	return xs, ys, nil
}

func (a axis) at(v float64) float64 {
	from, to := a.from, a.to
	if a.log {
		from, to, v = math.Log(from), math.Log(to), math.Log(v)
	}
	return a.start + (v-from)/(to-from)*(a.end-a.start)
}

// step is the distance of ticks: 1, 2 or 5 times a power of ten, for four to ten of them.
func (a axis) step() float64 {
	rough := (a.to - a.from) / 8
	power := math.Pow(10, math.Floor(math.Log10(rough)))
	for _, m := range []float64{1, 2, 5} {
		if rough <= m*power {
			return m * power
		}
	}
	return 10 * power
}

// ticks are the values that are written at the axis.
func (a axis) ticks() []float64 {
	var ticks []float64
	if a.log {
		for p := math.Ceil(math.Log10(a.from) - 1e-9); p <= math.Log10(a.to)+1e-9; p++ {
			ticks = append(ticks, math.Pow(10, p))
		}
		return ticks
	}
	step := a.step()
	for n := math.Ceil(a.from/step - 1e-9); n*step <= a.to+step*1e-9; n++ {
		ticks = append(ticks, n*step)
	}
	return ticks
}
