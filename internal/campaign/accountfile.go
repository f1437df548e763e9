package campaign

import (
	"errors"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// defaultLimit is the platform's requests per second of one user (help document
// 114042).
const defaultLimit = 1000

// ParseAccount reads an account file. Every problem of the file is in the error,
// one sentence each, with name and line; a secret written into the file is refused
// without being repeated.
func ParseAccount(name string, data []byte) (*Account, error) {
	f, root, err := parseFile(name, data)
	if err != nil {
		return nil, err
	}
	a := &Account{Limit: defaultLimit}
	const what = "the account"
	present := f.object(root, what, keys{
		"account":           f.text("account", &a.Name, checkName),
		"endpoint":          f.text("endpoint", &a.Endpoint, nil),
		"live":              f.boolean("live", func(v bool) { a.Live = v }),
		"access_key_id":     f.text("access_key_id", &a.AccessKeyID, checkRef),
		"access_key_secret": f.text("access_key_secret", &a.AccessKeySecret, checkRef),
		"security_token":    f.text("security_token", &a.SecurityToken, checkRef),
		"receipt_secret":    f.text("receipt_secret", &a.ReceiptSecret, checkRef),
		"limit":             f.integer("limit", 1, mostCallsPerSec, "requests per second", func(v int) { a.Limit = v }),
		"caller_ids":        func(n *yaml.Node) { f.accountCallerIDs(n, &a.CallerIDs) },
	}, nil)
	f.require(root, present, what, "account", "endpoint", "caller_ids")
	if n := present["endpoint"]; n != nil {
		f.failAll(n, a.checkEndpoint())
	}
	if present != nil && (present["access_key_id"] == nil) != (present["access_key_secret"] == nil) {
		f.fail(root, "give both access_key_id and access_key_secret, or neither")
	}
	if n := present["security_token"]; n != nil && present["access_key_id"] == nil {
		f.fail(n, "security_token needs access_key_id and access_key_secret")
	}
	if err := f.err(); err != nil {
		return nil, err
	}
	return a, nil
}

func (f *file) accountCallerIDs(n *yaml.Node, to *[]CallerID) {
	f.list(n, "caller_ids", 1000, func(item *yaml.Node) {
		var c CallerID
		present := f.object(item, "a caller ID", keys{
			"number": f.text("number", &c.Number, checkCallerID),
			"lines":  f.integer("lines", 1, mostCallsPerSec, "calls at the same time", func(v int) { c.Lines = v }),
			"pace":   f.number("pace", mostCallsPerSec, "calls started per second", func(v float64) { c.Pace = v }),
		}, nil)
		f.require(item, present, "a caller ID", "number", "lines")
		if slices.ContainsFunc(*to, func(o CallerID) bool { return o.Number == c.Number }) {
			f.fail(item, "caller ID %s stands twice", c.Number)
			return
		}
		*to = append(*to, c)
	})
}

// checkEndpoint lets an account reach either the simulator on this machine or, with
// live: true, the platform, and never one for the other.
func (a *Account) checkEndpoint() error {
	u, err := url.Parse(a.Endpoint)
	if err != nil || u.Host == "" || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http" {
		return errors.New("endpoint must be an https address, or an http address of this machine")
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Path != "" && u.Path != "/" {
		return errors.New("endpoint must be a scheme, a host and at most a port, without a path, a query or a user name")
	}
	switch local := isLoopback(u.Hostname()); {
	case !local && u.Scheme != "https":
		return errors.New("endpoint must use https: http is allowed to this machine only")
	case !local && !a.Live:
		return errors.New("endpoint is not on this machine, so real people would be called; write live: true if that is meant")
	case local && a.Live:
		return errors.New("live: true with an endpoint on this machine: nobody would be called; remove live, or name the platform's endpoint")
	}
	return nil
}

func isLoopback(host string) bool {
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.Unmap().IsLoopback()
	}
	return strings.EqualFold(host, "localhost")
}
