package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dialer/internal/pgserver"
	"dialer/internal/postgres"
)

// asProgram makes this test binary be the program itself, so that tests can start it
// as a process of its own and kill it.
const asProgram = "DIALER_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// environment is what a command finds in its environment.
type environment map[string]string

// dialer calls the program as a shell would.
func (e environment) dialer(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, &app{
		getenv: func(name string) string { return e[name] },
		stdin:  strings.NewReader(""), stdout: &out, stderr: &errs,
	})
	return code, out.String(), errs.String()
}

// must calls the program and fails the test unless it succeeds.
func (e environment) must(t *testing.T, args ...string) (stdout string) {
	t.Helper()
	code, stdout, stderr := e.dialer(t, args...)
	if code != exitOK {
		t.Fatalf("dialer %s: exit code %d: %s", strings.Join(args, " "), code, stderr)
	}
	return stdout
}

// write makes a file in a folder of the test and returns its path.
func write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// durable starts a private Postgres that nodes accept: those of package postgrestest
// may forget commits in a crash. Its schema is not there yet.
func durable(t *testing.T) (url string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "dialer-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	// As root, the server runs as another user, who must be able to pass through.
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	server, err := pgserver.Start(t.Context(), pgserver.Options{Dir: dir, BinDir: os.Getenv("DIALER_PG_BIN"), AllowDownload: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return server.URL()
}

func open(t *testing.T, url string) *postgres.DB {
	t.Helper()
	db, err := postgres.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return db
}

// count asks for one number.
func count(t *testing.T, db *postgres.DB, query string, args ...any) int {
	t.Helper()
	var n int
	if err := db.Pool().QueryRow(t.Context(), query, args...).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

// eventually waits until what f reports is true, and fails the test after the deadline
// with what f last said.
func eventually(t *testing.T, within time.Duration, what string, f func() (ok bool, state string)) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(within)
	for {
		ok, state := f()
		if ok {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("not within %s: %s: %s", within, what, state)
		case <-t.Context().Done():
			t.Fatalf("%s: %v", what, t.Context().Err())
		case <-tick.C:
		}
	}
}

func TestHelpNamesEveryCommand(t *testing.T) {
	for _, args := range [][]string{nil, {"--help"}} {
		code, stdout, stderr := environment{}.dialer(t, args...)
		if code != exitOK || stderr != "" {
			t.Errorf("dialer %v: exit code %d, stderr %q", args, code, stderr)
		}
		for _, command := range []string{"demo", "account", "campaign", "import", "run", "serve", "outcomes", "suppress", "audit", "resolve", "recover", "sql", "simulate", "migrate", "db", "config", "version"} {
			if !strings.Contains(stdout, "\n  "+command+" ") {
				t.Errorf("dialer %v does not name %q:\n%s", args, command, stdout)
			}
		}
	}
}

func TestVersionIsOneLine(t *testing.T) {
	stdout := environment{}.must(t, "version")
	if !strings.HasPrefix(stdout, "dialer ") || strings.Count(stdout, "\n") != 1 || len(stdout) < len("dialer x\n") {
		t.Errorf("version printed %q", stdout)
	}
}

func TestConfigHidesSecrets(t *testing.T) {
	const secret = "postgres://me:hunter2@127.0.0.1/x"
	stdout := environment{"DATABASE_URL": secret, "DIALER_NODE": "blue"}.must(t, "config")
	if strings.Contains(stdout, "hunter2") {
		t.Errorf("config shows a password:\n%s", stdout)
	}
	for _, want := range []string{"DATABASE_URL   ***", "DIALER_NODE    blue", "(default: 127.0.0.1:8090)"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("config does not show %q:\n%s", want, stdout)
		}
	}
}

func TestTableKnowsWideCharacters(t *testing.T) {
	var b strings.Builder
	table := newTable(&b, "门店", "calls", "note")
	table.row("西湖店", 7, "a")
	table.row("x", 1234, "b")
	if err := table.flush(); err != nil {
		t.Fatal(err)
	}
	const want = "门店    calls  note\n西湖店      7  a\nx        1234  b\n"
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
}
