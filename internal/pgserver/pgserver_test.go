package pgserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

func TestStartIsDurableAndPrivate(t *testing.T) {
	dir := dataDir(t)
	s := mustStart(t, Options{Dir: dir})

	for setting, want := range map[string]string{
		"fsync":                   "on",
		"full_page_writes":        "on",
		"synchronous_commit":      "on",
		"listen_addresses":        "",
		"shared_buffers":          "256MB",
		"max_wal_size":            "2GB",
		"max_connections":         "100",
		"TimeZone":                "UTC",
		"jit":                     "off",
		"log_min_error_statement": "panic",
		"server_encoding":         "UTF8",
	} {
		if got := query(t, s.URL(), "SHOW "+setting); got != want {
			t.Errorf("SHOW %s = %q, want %q", setting, got, want)
		}
	}
	if got := query(t, s.URL(), `SELECT current_user || ' ' || current_database()`); got != "dialer dialer" {
		t.Errorf("connected as %q, want role and database dialer", got)
	}
	if s.Joined() {
		t.Error("Joined() = true for a server started here")
	}
	want, err := Find(t.Context(), Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if s.Source() != want || !strings.Contains(want, "Postgres "+s.Version()) {
		t.Errorf("Source() = %q, Find said %q, version is %s", s.Source(), want, s.Version())
	}
	info, err := os.Stat(s.socket)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != 0o700 {
		t.Errorf("socket folder has mode %o, want 700", got)
	}
	if !filepath.IsAbs(s.Dir()) || s.Dir() != dir {
		t.Errorf("Dir() = %q, want %q", s.Dir(), dir)
	}
}

func TestCloseRemovesSocketAndKeepsData(t *testing.T) {
	dir := dataDir(t)
	first := mustStart(t, Options{Dir: dir, Fast: true, MaxConnections: 7})
	if got := query(t, first.URL(), "SHOW max_connections"); got != "7" {
		t.Errorf("max_connections = %s, want 7", got)
	}
	if got := query(t, first.URL(), "SHOW fsync"); got != "off" {
		t.Errorf("fsync of a fast server = %s, want off", got)
	}
	exec1(t, first.URL(), `DROP TABLE IF EXISTS kept_by_close; CREATE TABLE kept_by_close AS SELECT 'yes' AS answer`)
	pid := serverPID(t, dir)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if alive(pid) {
		t.Error("the server runs on after Close")
	}
	if _, err := os.Stat(first.socket); !os.IsNotExist(err) {
		t.Errorf("socket folder after Close: %v, want it gone", err)
	}
	if err := first.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	second := mustStart(t, Options{Dir: dir, Fast: true})
	if got := query(t, second.URL(), `SELECT answer FROM kept_by_close`); got != "yes" {
		t.Errorf("after a restart the table says %q", got)
	}
	if second.URL() != first.URL() {
		t.Errorf("the socket moved from %s to %s", first.URL(), second.URL())
	}
}

func TestInterruptForTheTerminalDoesNotReachTheServer(t *testing.T) {
	dir := dataDir(t)
	mustStart(t, Options{Dir: dir, Fast: true})
	group, err := syscall.Getpgid(serverPID(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	if group == syscall.Getpgrp() {
		t.Error("the server is in our process group: Ctrl-C would stop it before our last writes")
	}
}

func TestServerDoesNotGetOurSecrets(t *testing.T) {
	t.Setenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "canary")
	dir := dataDir(t)
	mustStart(t, Options{Dir: dir, Fast: true})
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", serverPID(t, dir)))
	if os.IsNotExist(err) {
		env = []byte(strings.Join(serverEnv(), "\x00")) // no /proc here
	} else if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(env), "canary") {
		t.Error("the server's environment holds a secret of ours")
	}
}

func TestLogHoldsNoNumbers(t *testing.T) {
	dir := dataDir(t)
	s := mustStart(t, Options{Dir: dir, Fast: true})
	conn, err := pgx.Connect(t.Context(), s.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	const number = "13800000001"
	if _, err := conn.Exec(t.Context(), `DROP TABLE IF EXISTS log_contact; CREATE TABLE log_contact (phone text PRIMARY KEY); INSERT INTO log_contact VALUES ('`+number+`')`); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), `INSERT INTO log_contact VALUES ($1)`, number); err == nil {
		t.Fatal("a second row with the same key was taken")
	}
	if _, err := conn.Exec(t.Context(), `INSERT INTO log_contact VALUES ('`+number+`')`); err == nil {
		t.Fatal("a second row with the same key was taken")
	}
	text, err := os.ReadFile(s.data + ".log")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "duplicate key") {
		t.Errorf("the log does not show the error at all:\n%s", text)
	}
	if strings.Contains(string(text), number) {
		t.Errorf("the log holds a phone number:\n%s", text)
	}
	info, err := os.Stat(s.data + ".log")
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the log has mode %o, want 600", info.Mode().Perm())
	}
}

func TestStartEndsWithItsContext(t *testing.T) {
	dir := dataDir(t)
	cause := errors.New("the user had enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if _, err := Start(ctx, Options{Dir: dir, Fast: true}); err == nil {
		t.Fatal("started with a context that had ended")
	}
	mustStart(t, Options{Dir: dir, Fast: true}) // nothing was left that hinders
}

func TestHalfMadeDataIsMadeAgain(t *testing.T) {
	dir := openDir(t)
	bin, err := Find(t.Context(), Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	var major int
	if _, err := fmt.Sscanf(bin, "Postgres %d", &major); err != nil {
		t.Fatal(err)
	}
	half := dataFolder(dir, major) + ".new"
	if err := os.MkdirAll(filepath.Join(half, "base"), 0o700); err != nil {
		t.Fatal(err)
	}
	s := mustStart(t, Options{Dir: dir, Fast: true})
	if got := query(t, s.URL(), `SELECT 'answers'`); got != "answers" {
		t.Errorf("got %q", got)
	}
	if _, err := os.Stat(half); !os.IsNotExist(err) {
		t.Errorf("half of a data folder is still there: %v", err)
	}
}

func TestRuinedDataIsReported(t *testing.T) {
	dir := openDir(t)
	s := mustStart(t, Options{Dir: dir, Fast: true})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(s.data, "global", "pg_control")); err != nil {
		t.Fatal(err)
	}
	_, err := Start(t.Context(), Options{Dir: dir, Fast: true})
	if err == nil || !strings.Contains(err.Error(), "pg_control") {
		t.Errorf("got %v, want the server's own words about pg_control", err)
	}
}

func TestScratchServers(t *testing.T) {
	dir := openDir(t)
	scratch := func() *Server {
		t.Helper()
		s, err := StartScratch(t.Context(), Options{Dir: dir, Log: testLog(t)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	var a, b *Server
	var both sync.WaitGroup
	both.Go(func() { a = scratch() })
	both.Go(func() { b = scratch() })
	both.Wait()
	if a.URL() == b.URL() || a.Joined() || b.Joined() {
		t.Fatalf("two scratch servers share one: %s, %s", a.URL(), b.URL())
	}
	exec1(t, a.URL(), `CREATE DATABASE left_behind IS_TEMPLATE true`)
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}

	again := scratch()
	if again.Dir() != a.Dir() {
		t.Errorf("a free folder, %s, was not taken again but %s", a.Dir(), again.Dir())
	}
	if got := query(t, again.URL(), `SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database`); got != "dialer postgres template0 template1" {
		t.Errorf("databases of a new scratch server: %s", got)
	}

	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(again.data, "global", "pg_control")); err != nil {
		t.Fatal(err)
	}
	if got := query(t, scratch().URL(), `SELECT 'answers'`); got != "answers" {
		t.Errorf("after ruin: %q", got)
	}
}

// A server that ends by itself is started again at its address, with what it had
// committed; Close ends it for good, also while it is being started.
func TestServerThatEndsIsStartedAgain(t *testing.T) {
	dir := dataDir(t)
	s := mustStart(t, Options{Dir: dir})
	exec1(t, s.URL(), `DROP TABLE IF EXISTS survived; CREATE TABLE survived AS SELECT 'yes' AS answer`)
	for range 2 {
		pid := serverPID(t, dir)
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		for answer := ""; answer != "yes"; {
			conn, err := pgx.Connect(ctx, s.URL())
			if err == nil {
				err = conn.QueryRow(ctx, `SELECT answer FROM survived`).Scan(&answer)
				conn.Close(ctx)
			}
			if ctx.Err() != nil {
				t.Fatalf("the server does not come back: %v", err)
			}
		}
		cancel()
		if serverPID(t, dir) == pid {
			t.Fatal("it was not killed")
		}
	}
	if err := syscall.Kill(serverPID(t, dir), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := pgx.Connect(t.Context(), s.URL()); err == nil {
		t.Error("the server answers after Close")
	}
}
