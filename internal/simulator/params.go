package simulator

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// params are the decoded parameters of a request, sorted by name.
type params []param

type param struct{ name, value string }

// parseParams decodes query strings and form bodies: the official Go SDK writes a
// space as +, so what is signed can only be found by decoding first and encoding again.
func parseParams(raws ...string) (params, error) {
	n := 0
	for _, raw := range raws {
		n += strings.Count(raw, "&") + 1
	}
	ps := make(params, 0, n)
	for _, raw := range raws {
		for raw != "" {
			var pair string
			pair, raw, _ = strings.Cut(raw, "&")
			if pair == "" {
				continue
			}
			name, value, _ := strings.Cut(pair, "=")
			name, err := url.QueryUnescape(name)
			if err != nil {
				return nil, fmt.Errorf("decode a parameter name: %w", err)
			}
			value, err = url.QueryUnescape(value)
			if err != nil {
				// The error of package url would repeat a piece of the value.
				return nil, fmt.Errorf("decode parameter %s: bad percent-encoding", name)
			}
			ps = append(ps, param{name, value})
		}
	}
	slices.SortFunc(ps, func(a, b param) int { return cmp.Compare(a.name, b.name) })
	for i := 1; i < len(ps); i++ {
		if ps[i].name == ps[i-1].name {
			return nil, fmt.Errorf("parameter %s is given twice", ps[i].name)
		}
	}
	return ps, nil
}

func (ps params) get(name string) string {
	value, _ := ps.lookup(name)
	return value
}

func (ps params) lookup(name string) (string, bool) {
	for i := range ps {
		if ps[i].name == name {
			return ps[i].value, true
		}
	}
	return "", false
}

// appendCanonical appends name=value pairs joined by &, encoded as both signatures
// want it, without the parameter called except.
func (ps params) appendCanonical(b []byte, except string) []byte {
	first := true
	for i := range ps {
		if ps[i].name == except {
			continue
		}
		if !first {
			b = append(b, '&')
		}
		first = false
		b = appendEncoded(b, ps[i].name)
		b = append(b, '=')
		b = appendEncoded(b, ps[i].value)
	}
	return b
}

// appendEncoded percent-encodes everything but A-Z a-z 0-9 - _ . ~.
func appendEncoded[S string | []byte](b []byte, s S) []byte {
	const hex = "0123456789ABCDEF"
	for i := range len(s) {
		c := s[i]
		if c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' ||
			c == '-' || c == '_' || c == '.' || c == '~' {
			b = append(b, c)
		} else {
			b = append(b, '%', hex[c>>4], hex[c&15])
		}
	}
	return b
}
