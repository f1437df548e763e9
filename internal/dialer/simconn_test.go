package dialer_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"maps"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

var errDatabase = &net.OpError{Op: "simulated database", Err: syscall.ECONNRESET}

// session is a session at the real server. Sessions outlive the connections of the
// simulations, because a new one costs more than everything that is asked of it.
type session struct {
	conn     net.Conn
	greeting []byte // what the server said when it began
}

// take returns a session that nobody uses.
func (d *simDatabase) take() (*session, error) {
	d.mu.Lock()
	if n := len(d.sessions); n > 0 {
		s := d.sessions[n-1]
		d.sessions = d.sessions[:n-1]
		d.mu.Unlock()
		return s, nil
	}
	d.mu.Unlock()
	cfg, err := pgconn.ParseConfig(d.url)
	if err != nil {
		return nil, err
	}
	maps.Copy(cfg.RuntimeParams, simSettings)
	conn, err := pgconn.ConnectConfig(context.Background(), cfg)
	if err != nil {
		return nil, err
	}
	h, err := conn.Hijack()
	if err != nil {
		return nil, err
	}
	s := &session{conn: h.Conn}
	messages := []pgproto3.BackendMessage{&pgproto3.AuthenticationOk{}, &pgproto3.BackendKeyData{ProcessID: h.PID, SecretKey: h.SecretKey}}
	for name, value := range h.ParameterStatuses {
		messages = append(messages, &pgproto3.ParameterStatus{Name: name, Value: value})
	}
	for _, m := range append(messages, &pgproto3.ReadyForQuery{TxStatus: 'I'}) {
		if s.greeting, err = m.Encode(s.greeting); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// dbConn is a node's connection to the real database. It breaks off between whole
// statements, and holds up only outside transactions: a transaction that is held up while
// it holds locks would hold up the whole bubble, because nobody who waits in the
// database lets its clock go on.
type dbConn struct {
	database *simDatabase
	node     *simNode // nil: nothing happens to it

	reading sync.Mutex // held while the session is read from

	mu      sync.Mutex
	session *session      // nil before the first message and after Close
	dead    chan struct{} // closed when the deadline has passed or the connection is closed
	expiry  *time.Timer   // of the deadline
	gone    bool          // closed
	began   bool          // it has a session
	leaving bool          // there is nothing more to read
	pending int           // Sync and Query messages without their ReadyForQuery
	idle    bool          // outside a transaction, by the last ReadyForQuery
	in, out messages
	drop    bool          // the reply under way is lost
	intents bool          // the next statement is the intents'
	onWay   int           // statements that have left and not arrived
	held    []byte        // to be read before anything else
	asked   chan struct{} // sent on when there may be something to read
}

// messages cuts a stream into messages: a type, a length, a body.
type messages struct {
	head [5]byte
	have int
	skip int
	last byte // of the body seen last
}

// each calls f with the type and the last byte of each message that p completes.
func (m *messages) each(p []byte, f func(kind, last byte)) {
	for len(p) > 0 {
		if m.have < 5 {
			n := copy(m.head[m.have:], p)
			m.have += n
			p = p[n:]
			if m.have < 5 {
				return
			}
			m.skip = int(binary.BigEndian.Uint32(m.head[1:])) - 4
		}
		n := min(m.skip, len(p))
		if n > 0 {
			m.last = p[n-1]
		}
		m.skip -= n
		p = p[n:]
		if m.skip == 0 {
			f(m.head[0], m.last)
			m.have = 0
		}
	}
}

// The first words of a connection that wants something else than a session.
const (
	codeCancel = 80877102
	codeTLS    = 80877103
)

func (c *dbConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	began, ready, free := c.began, c.began && c.pending == 0, c.began && c.pending == 0 && c.idle
	c.mu.Unlock()
	if !began {
		return c.hello(p)
	}
	if free {
		c.hold()
	}
	if c.node != nil && (c.node.isCut() || c.node.databaseDown() || c.node.isHung()) {
		_ = c.Close()
		return 0, errDatabase
	}
	if ready && c.node != nil && p[0] != 'X' {
		switch c.node.w.plan.dbFault(c.node.random()) {
		case dbKill:
			c.node.w.trace.add("%s: a statement does not reach the database", c.node.name)
			_ = c.Close()
			return 0, errDatabase
		case dbLate:
			if c.isIntents(p) {
				return c.late(p), nil
			}
		case dbDrop:
			c.node.w.trace.add("%s: the database's reply is lost", c.node.name)
			c.mu.Lock()
			c.drop = true
			c.mu.Unlock()
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.gone:
		return 0, errDatabase
	case p[0] == 'X': // the session goes on without us
		c.leaving = true
		c.ask()
		return len(p), nil
	}
	return c.send(p)
}

// send writes to the server. The lock is held.
func (c *dbConn) send(p []byte) (int, error) {
	c.out.each(p, func(kind, _ byte) {
		if kind == 'S' || kind == 'Q' {
			c.pending++
		}
	})
	n, err := c.session.conn.Write(p)
	c.ask()
	return n, err
}

// isIntents tells whether p executes the statement that writes intents.
func (c *dbConn) isIntents(p []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.intents && p[0] == 'B'
}

// late lets a statement arrive later, whatever becomes of its sender meanwhile: it lay
// in a buffer of a network that was stuck.
func (c *dbConn) late(p []byte) int {
	c.mu.Lock()
	c.onWay++
	c.mu.Unlock()
	p = bytes.Clone(p)
	wait := time.Duration(c.node.random().IntN(int(3 * simSendWithin)))
	c.node.w.trace.add("%s: intents reach the database %v late", c.node.name, wait)
	c.node.w.background.Go(func() {
		time.Sleep(wait)
		c.node.w.clock.follow(context.Background())
		c.mu.Lock()
		_, err := c.send(p)
		c.onWay--
		gone := c.gone
		c.mu.Unlock()
		c.node.w.trace.add("%s: late intents arrive (%v)", c.node.name, err)
		if gone {
			_ = c.giveBack()
		}
	})
	return len(p)
}

// ask wakes a reader.
func (c *dbConn) ask() {
	select {
	case c.asked <- struct{}{}:
	default:
	}
}

// hello answers the first message.
func (c *dbConn) hello(p []byte) (int, error) {
	code := binary.BigEndian.Uint32(p[4:])
	var s *session
	if code != codeTLS && code != codeCancel {
		var err error
		if s, err = c.database.take(); err != nil {
			return 0, err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch code {
	case codeTLS:
		c.held = []byte{'N'}
	case codeCancel:
		c.leaving = true // what is under way is waited for
	default:
		c.session, c.held, c.began, c.idle = s, s.greeting, true, true
	}
	c.ask()
	return len(p), nil
}

// hold waits while the node hangs. The database's clock has gone on meanwhile.
func (c *dbConn) hold() {
	if c.node == nil || !c.node.isHung() {
		return
	}
	c.mu.Lock()
	dead := c.dead
	c.mu.Unlock()
	c.node.wait(dead)
	c.node.w.clock.follow(context.Background())
}

func (c *dbConn) Read(p []byte) (int, error) {
	for {
		c.mu.Lock()
		if len(c.held) > 0 {
			n := copy(p, c.held)
			c.held = c.held[n:]
			c.mu.Unlock()
			return n, nil
		}
		// A read of a reply that is not asked for yet would stop the clock.
		pending, leaving, dead := c.pending, c.leaving, c.dead
		c.mu.Unlock()
		if leaving {
			return 0, io.EOF
		}
		if pending > 0 {
			break
		}
		select {
		case <-c.asked:
		case <-dead:
			return 0, errDatabase
		}
	}
	n, err := c.read(p)
	if err != nil {
		return n, err
	}
	c.mu.Lock()
	drop, whole, free := c.drop, c.pending == 0, c.pending == 0 && c.idle
	c.mu.Unlock()
	if drop {
		rest := make([]byte, 4096)
		for !whole {
			if _, err := c.read(rest); err != nil {
				break
			}
			c.mu.Lock()
			whole = c.pending == 0
			c.mu.Unlock()
		}
		_ = c.Close()
		return 0, errDatabase
	}
	if free {
		c.hold()
	}
	if c.node != nil && c.node.isCut() {
		_ = c.Close()
		return 0, errDatabase
	}
	return n, nil
}

// read reads from the server and notes what it said.
func (c *dbConn) read(p []byte) (int, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	c.mu.Lock()
	s, pending := c.session, c.pending
	c.mu.Unlock()
	if s == nil || pending == 0 {
		return 0, errDatabase
	}
	n, err := s.conn.Read(p)
	if err != nil {
		return n, err
	}
	c.note(p[:n])
	return n, nil
}

func (c *dbConn) note(p []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.in.each(p, func(kind, last byte) {
		if kind == 'Z' {
			c.pending--
			c.idle = last == 'I'
		}
	})
}

// Close gives the session back, or leaves that to a statement on its way. A transaction under way is rolled back, as the server
// does for a client that is gone; a statement under way is waited for.
func (c *dbConn) Close() error {
	c.mu.Lock()
	if c.gone {
		c.mu.Unlock()
		return net.ErrClosed
	}
	c.gone = true
	c.end()
	if c.expiry != nil {
		c.expiry.Stop()
	}
	onWay := c.onWay
	c.mu.Unlock()
	if c.node != nil {
		c.node.mu.Lock()
		delete(c.node.conns, c)
		c.node.mu.Unlock()
	}
	if onWay > 0 {
		return nil
	}
	return c.giveBack()
}

func (c *dbConn) giveBack() error {
	c.reading.Lock()
	defer c.reading.Unlock()
	c.mu.Lock()
	s := c.session
	c.session = nil
	c.mu.Unlock()
	if s == nil {
		return nil
	}
	again, err := (&pgproto3.Query{String: "ROLLBACK; DEALLOCATE ALL"}).Encode(nil)
	if err == nil {
		_, err = s.conn.Write(again)
	}
	c.mu.Lock()
	c.pending++
	pending := c.pending
	c.mu.Unlock()
	for rest := make([]byte, 4096); err == nil && pending > 0; {
		var n int
		if n, err = s.conn.Read(rest); err == nil {
			c.note(rest[:n])
			c.mu.Lock()
			pending = c.pending
			c.mu.Unlock()
		}
	}
	if err != nil {
		return s.conn.Close()
	}
	c.database.mu.Lock()
	c.database.sessions = append(c.database.sessions, s)
	c.database.mu.Unlock()
	return nil
}

// SetDeadline ends what waits on the connection at a time. What the server is about to
// answer is read all the same.
func (c *dbConn) SetDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		return net.ErrClosed
	}
	if c.expiry != nil {
		c.expiry.Stop()
		c.expiry = nil
	}
	switch {
	case t.IsZero():
		select {
		case <-c.dead:
			c.dead = make(chan struct{})
		default:
		}
	case !t.After(time.Now()):
		c.end()
	default:
		c.expiry = time.AfterFunc(time.Until(t), func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.end()
		})
	}
	return nil
}

func (c *dbConn) SetReadDeadline(t time.Time) error { return c.SetDeadline(t) }
func (*dbConn) SetWriteDeadline(time.Time) error    { return nil }

// end is called with the lock held.
func (c *dbConn) end() {
	select {
	case <-c.dead:
	default:
		close(c.dead)
	}
}

func (*dbConn) LocalAddr() net.Addr  { return &net.UnixAddr{Net: "unix", Name: "node"} }
func (*dbConn) RemoteAddr() net.Addr { return &net.UnixAddr{Net: "unix", Name: "database"} }
