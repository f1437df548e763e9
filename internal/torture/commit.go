package torture

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// CommitProxy is a Proxy in front of Postgres that understands its protocol and loses
// the replies to commits: the transaction is committed, and the client, whose connection
// is broken, does not learn of it; or it is not committed, and the client does not learn
// that either. Connections with TLS pass as they are.
type CommitProxy struct {
	*Proxy

	mu     sync.Mutex
	random *rand.Rand
	losses []*Loss
}

// Moment is when a connection breaks.
type Moment int

// Moments at which a connection breaks.
const (
	// AfterCommit is when the server has committed: nothing of its reply from there on
	// reaches the client.
	AfterCommit Moment = iota
	// DuringCommit is when the server has just been sent the whole transaction: whether
	// it is committed, and when, is not known to anybody.
	DuringCommit
	// BeforeCommit is when the client sends the end of the transaction, which does not
	// reach the server: nothing is committed.
	BeforeCommit
)

// Loss says which commits lose their reply, and counts them. Set it up before Lose.
type Loss struct {
	// Match chooses transactions by their statements; nil is every one that writes.
	Match func(statements []string) bool
	// Every is among how many of those one is lost, which one at random; 0 loses none.
	Every int
	// Most is how many are lost at most; 0 is no limit.
	Most int
	When Moment

	// Under the lock of the proxy.
	seen, lost int
	next       int // which of the Every that come now
}

// Holding matches transactions of which a statement holds the text.
func Holding(text string) func(statements []string) bool {
	return func(statements []string) bool {
		for _, sql := range statements {
			if strings.Contains(sql, text) {
				return true
			}
		}
		return false
	}
}

// NewCommitProxy starts a proxy to a server, such as ("tcp", "127.0.0.1:5432") or its
// unix socket. The seed decides which commits lose their reply: the n-th that a Loss
// matches, whatever connection it comes on.
func NewCommitProxy(t testing.TB, network, target string, seed uint64) *CommitProxy {
	t.Helper()
	p := &CommitProxy{random: rand.New(rand.NewPCG(seed, seed))}
	p.Proxy = newProxy(t, nil, loopback(port(t)), network, target, func() (request, response filter) {
		c := &conversation{proxy: p, prepared: make(map[string]string), portals: make(map[string]string)}
		return fromClient{c}, fromServer{c}
	})
	return p
}

// URL is the address of a database of the superuser "dialer" behind the proxy.
func (p *CommitProxy) URL() string { return databaseURL(p.Addr(), "dialer") }

// Through is the address of a database with that of the server replaced by the proxy's.
func (p *CommitProxy) Through(database string) (string, error) {
	u, err := url.Parse(database)
	if err != nil {
		return "", fmt.Errorf("address of a database: %w", err)
	}
	q := u.Query()
	q.Del("host")
	q.Del("port")
	q.Set("sslmode", "disable")
	u.Host, u.RawQuery = p.Addr(), q.Encode()
	return u.String(), nil
}

// Lose replaces what is lost from now on. Of several that match, the first counts.
func (p *CommitProxy) Lose(losses ...*Loss) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.losses = losses
}

// Lost tells how many commits a Loss has matched, and how many of them lost their reply.
func (p *CommitProxy) Lost(loss *Loss) (seen, lost int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return loss.seen, loss.lost
}

// loses decides about one commit.
func (p *CommitProxy) loses(statements []string, when Moment) (lost bool, how How) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, loss := range p.losses {
		if loss.When != when || loss.Match != nil && !loss.Match(statements) {
			continue
		}
		loss.seen++
		if loss.Every == 0 || loss.Most > 0 && loss.lost == loss.Most {
			return false, RST
		}
		if (loss.seen-1)%loss.Every == 0 {
			loss.next = p.random.IntN(loss.Every)
		}
		if (loss.seen-1)%loss.Every != loss.next {
			return false, RST
		}
		loss.lost++
		return true, How(p.random.IntN(2)) // RST or FIN: clients treat them differently
	}
	return false, RST
}

// writing finds statements that change something, in a SELECT, too. It takes some that
// do not, such as one with these words in a string.
var writing = regexp.MustCompile(`(?is)\b(insert\s+into|delete\s+from|merge\s+into|copy|truncate|create|alter|drop)\s|\bupdate\s+(only\s+)?[\w."]+(\s+(as\s+)?\w+)?\s+set\s`)

func writes(statements []string) bool {
	return slices.ContainsFunc(statements, writing.MatchString)
}

// conversation is what a client and its server have said to each other. The client may
// be several turns ahead of the server; a turn ends with ReadyForQuery.
type conversation struct {
	proxy *CommitProxy

	mu       sync.Mutex
	opaque   bool              // begun by something other than a plain start: it passes as it is
	started  bool              // the start was seen
	client   []byte            // the beginning of a message that is not whole yet
	server   []byte            // likewise
	prepared map[string]string // SQL by the name of the statement
	portals  map[string]string // SQL by the name of the portal
	turn     []string          // SQL of the turn that the client is in
	turns    [][]string        // SQL of the turns that the server has not ended
	done     []string          // SQL of the transaction so far, up to the last turn that ended
	held     []byte            // what the server said in its turn from the end of a statement on
	failed   bool              // the server's turn has an error
	rolled   bool              // and a statement that ended in ROLLBACK
}

type fromClient struct{ *conversation }

// pass reads what the client says. It is forwarded as it comes.
func (c fromClient) pass(chunk []byte) (out []byte, cut bool, how How) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.opaque {
		return chunk, false, RST
	}
	c.client = append(c.client, chunk...)
	for !c.opaque {
		if !c.started {
			body, whole := c.take(&c.client, 0)
			if !whole {
				break
			}
			c.started = true
			// Anything but a start: TLS, or a request to cancel.
			c.opaque = len(body) < 4 || binary.BigEndian.Uint32(body) != pgproto3.ProtocolVersion30 && binary.BigEndian.Uint32(body) != pgproto3.ProtocolVersion32
			c.turns = append(c.turns, nil)
			continue
		}
		if len(c.client) == 0 {
			break
		}
		kind := c.client[0]
		body, whole := c.take(&c.client, 1)
		if !whole {
			break
		}
		if ended := c.said(kind, body); ended && !cut {
			statements := append(c.done[:len(c.done):len(c.done)], c.turns[len(c.turns)-1]...)
			if len(c.turns) == 1 && commits(statements) {
				if cut, how = c.proxy.loses(statements, DuringCommit); cut {
					continue
				}
				if cut, how = c.proxy.loses(statements, BeforeCommit); cut {
					return nil, true, how
				}
			}
		}
	}
	return chunk, cut, how
}

// commits tells whether a transaction with these statements writes, and ends with the
// last of them. It is for the client's side, which has not heard how it went.
func commits(statements []string) bool {
	if !writes(statements) {
		return false
	}
	if first := firstWord(statements[0]); first != "begin" && first != "start" {
		return true
	}
	last := firstWord(statements[len(statements)-1])
	return last == "commit" || last == "end"
}

func firstWord(sql string) string {
	sql = strings.ToLower(strings.TrimSpace(sql))
	if i := strings.IndexFunc(sql, func(r rune) bool { return r < 'a' || r > 'z' }); i >= 0 {
		return sql[:i]
	}
	return sql
}

// take takes a message with a prefix of so many bytes off a buffer, if it is whole.
func (c *conversation) take(buf *[]byte, prefix int) (body []byte, whole bool) {
	if len(*buf) < prefix+4 {
		return nil, false
	}
	size := prefix + int(binary.BigEndian.Uint32((*buf)[prefix:]))
	if size < prefix+4 {
		c.opaque = true // this is not the protocol
		return nil, false
	}
	if len(*buf) < size {
		return nil, false
	}
	body = (*buf)[prefix+4 : size]
	*buf = (*buf)[size:]
	return body, true
}

// said notes one message of the client and tells whether it ends a turn.
func (c *conversation) said(kind byte, body []byte) (ended bool) {
	switch kind {
	case 'P':
		var m pgproto3.Parse
		if c.understood(m.Decode(body)) {
			c.prepared[m.Name] = m.Query
		}
	case 'B':
		var m pgproto3.Bind
		if c.understood(m.Decode(body)) {
			c.portals[m.DestinationPortal] = c.prepared[m.PreparedStatement]
		}
	case 'E':
		var m pgproto3.Execute
		if c.understood(m.Decode(body)) {
			c.turn = append(c.turn, c.portals[m.Portal])
		}
	case 'C':
		var m pgproto3.Close
		if c.understood(m.Decode(body)) && m.ObjectType == 'S' {
			delete(c.prepared, m.Name)
		}
	case 'Q':
		var m pgproto3.Query
		if c.understood(m.Decode(body)) {
			c.turn = append(c.turn, m.String)
			ended = true
		}
	case 'S', 'F': // Sync, or a function call of old
		ended = true
	}
	if ended {
		c.turns = append(c.turns, c.turn)
		c.turn = nil
	}
	return ended
}

func (c *conversation) understood(err error) bool {
	c.opaque = c.opaque || err != nil
	return err == nil
}

type fromServer struct{ *conversation }

// pass reads what the server says. The end of a statement is held back until the turn
// ends: only then is it committed.
func (c fromServer) pass(chunk []byte) (out []byte, cut bool, how How) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.opaque {
		rest := append(c.held, c.server...)
		c.held, c.server = nil, nil
		return append(rest, chunk...), false, RST
	}
	c.server = append(c.server, chunk...)
	for len(c.server) > 0 {
		message := c.server
		kind := message[0]
		body, whole := c.take(&c.server, 1)
		if !whole {
			break
		}
		message = message[:1+4+len(body)]
		switch kind {
		case 'E':
			c.failed = true
		case 'C':
			var m pgproto3.CommandComplete
			if c.understood(m.Decode(body)) && string(m.CommandTag) == "ROLLBACK" {
				c.rolled = true
			}
		case 'Z':
			var m pgproto3.ReadyForQuery
			if c.understood(m.Decode(body)) && len(c.turns) > 0 {
				if cut, how = c.ended(m.TxStatus); cut {
					return out, true, how
				}
			}
			out, c.held = append(append(out, c.held...), message...), nil
			continue
		}
		// While the client has not ended the turn, it may wait for this answer first.
		if (kind == 'C' || len(c.held) > 0) && len(c.turns) > 0 {
			c.held = append(c.held, message...)
			continue
		}
		out = append(out, message...)
	}
	return out, false, RST
}

// ended ends the server's turn and decides whether its end is lost.
func (c *conversation) ended(status byte) (lost bool, how How) {
	c.done = append(c.done, c.turns[0]...)
	c.turns = c.turns[1:]
	failed, rolled := c.failed, c.rolled
	c.failed = false
	if status != 'I' {
		return false, RST
	}
	statements := c.done
	c.done, c.rolled = nil, false
	if failed || rolled || !writes(statements) {
		return false, RST
	}
	return c.proxy.loses(statements, AfterCommit)
}
