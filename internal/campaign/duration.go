package campaign

import (
	"fmt"
	"strings"
	"time"
)

// Duration is a span of time that is written "5m", "2h" or "1h30m" in files and
// in JSON. The zero value is no time, "0s".
type Duration time.Duration

// String returns the shortest form: "5m", not "5m0s".
func (d Duration) String() string {
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// MarshalText writes the form that String returns.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads a number with a unit, as "90s", "5m", "1h30m".
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is no duration: write a number with its unit, as 90s, 5m or 1h30m", short(string(text)))
	}
	*d = Duration(v)
	return nil
}
