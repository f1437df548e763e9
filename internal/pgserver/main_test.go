package pgserver

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// holdVariable makes the test binary start a server in the folder it names,
// say where, and hold it until its input ends: the other process of the tests.
const holdVariable = "PGSERVER_TEST_HOLD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(holdVariable); dir != "" {
		if err := hold(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	if dir, err := sharedDir(); err == nil {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// held is what the other process says about its server.
type held struct {
	URL    string
	Joined bool
}

func hold(dir string) error {
	s, err := Start(context.Background(), Options{Dir: dir, Fast: true})
	if err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(held{URL: s.URL(), Joined: s.Joined()}); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	return s.Close()
}

// other is another process that runs or joined a server.
type other struct {
	held
	cmd   *exec.Cmd
	input io.Closer
}

// startOther starts another process on dir and returns a function that waits for its word.
func startOther(t *testing.T, dir string) func() *other {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), holdVariable+"="+dir)
	cmd.Stderr = t.Output()
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	o := &other{cmd: cmd, input: input}
	t.Cleanup(func() {
		input.Close()
		cmd.Wait() // the tests that care have waited themselves
	})
	return func() *other {
		t.Helper()
		line, err := bufio.NewReader(output).ReadBytes('\n')
		if err != nil {
			t.Fatalf("the other process did not start its server: %v", err)
		}
		if err := json.Unmarshal(line, &o.held); err != nil {
			t.Fatal(err)
		}
		return o
	}
}

// end lets the other process close its server and waits until it has ended.
func (o *other) end(t *testing.T) {
	t.Helper()
	o.input.Close()
	if err := o.cmd.Wait(); err != nil {
		t.Fatalf("the other process: %v", err)
	}
}

// openDir is a new folder that the server's user can enter, also when root runs the test.
func openDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{filepath.Dir(dir), dir} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// sharedDir is a folder with a database, made once. Tests start their servers
// on it one after another, because making the thousand files of a new one is
// nearly all the time a test takes.
var sharedDir = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "pgserver-test-")
	if err != nil {
		return "", err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", err
	}
	s, err := Start(context.Background(), Options{Dir: dir, Fast: true})
	if err != nil {
		return "", err
	}
	return dir, s.Close()
})

// dataDir is a folder with a database in which no server runs. Other tests may
// have left tables in it, so a test names its own after itself.
func dataDir(t *testing.T) string {
	t.Helper()
	dir, err := sharedDir()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// testLog shows the package's log lines with the test that fails.
func testLog(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}

func mustStart(t *testing.T, opts Options) *Server {
	t.Helper()
	opts.Log = testLog(t)
	s, err := Start(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// query returns the one text value of a statement.
func query(t *testing.T, url, sql string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var text string
	if err := conn.QueryRow(t.Context(), sql).Scan(&text); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return text
}

func exec1(t *testing.T, url, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// eventually polls until ok, and fails the test after half a minute.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("after 30 s still not so: %s", what)
		}
	}
}

// serverPID is the process of the server that runs on s's kind of folder.
func serverPID(t *testing.T, dir string) int {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "pg*", "postmaster.pid"))
	if err != nil || len(found) != 1 {
		t.Fatalf("postmaster.pid under %s: %v %v", dir, found, err)
	}
	text, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(line)
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }
