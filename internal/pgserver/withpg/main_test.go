package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// noServer is the environment of someone who has a server: none is started.
func noServer(name string) string {
	if name == urlVariable {
		return "postgres://somebody@127.0.0.1/made_up"
	}
	return ""
}

func TestExitCodeIsTheCommands(t *testing.T) {
	for _, test := range []struct {
		args []string
		want int
		err  string
	}{
		{[]string{"sh", "-c", "exit 0"}, 0, ""},
		{[]string{"sh", "-c", "exit 7"}, 7, ""},
		{[]string{"sh", "-c", "kill -9 $$"}, 1, ""},
		{[]string{"/nowhere/command"}, 1, "/nowhere/command"},
		{nil, 2, "name the command"},
	} {
		code, err := run(t.Context(), test.args, noServer, t.Output())
		if code != test.want {
			t.Errorf("%q: exit code %d, want %d", test.args, code, test.want)
		}
		if (err == nil) != (test.err == "") || (err != nil && !strings.Contains(err.Error(), test.err)) {
			t.Errorf("%q: error %v, want %q", test.args, err, test.err)
		}
	}
}

func TestFindPrintsOneLine(t *testing.T) {
	var out bytes.Buffer
	code, err := run(t.Context(), []string{"-find"}, func(string) string { return "" }, &out)
	if code != 0 || err != nil {
		t.Fatalf("exit code %d, %v", code, err)
	}
	if !strings.HasPrefix(out.String(), "Postgres ") || strings.Count(out.String(), "\n") != 1 {
		t.Errorf("printed %q, want one line that begins with Postgres", out.String())
	}
}

func TestServerRunsAsLongAsTheCommand(t *testing.T) {
	dir := t.TempDir()
	told, gate := filepath.Join(dir, "told"), filepath.Join(dir, "gate")
	if code, err := run(t.Context(), []string{"mkfifo", told, gate}, noServer, t.Output()); code != 0 {
		t.Fatalf("mkfifo: %d, %v", code, err)
	}
	ended := make(chan int, 1)
	go func() {
		// The command tells the server's address and stays until the gate is opened.
		script := `echo "$` + urlVariable + `" >` + told + `; cat ` + gate
		code, err := run(t.Context(), []string{"sh", "-c", script}, func(string) string { return "" }, t.Output())
		if err != nil {
			t.Error(err)
		}
		ended <- code
	}()
	text, err := os.ReadFile(told)
	if err != nil {
		t.Fatal(err)
	}
	url := strings.TrimSpace(string(text))
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Errorf("the server the command was told of does not answer: %v", err)
	} else if err := conn.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(gate, nil, 0); err != nil {
		t.Error(err)
	}
	if code := <-ended; code != 0 {
		t.Errorf("exit code %d", code)
	}
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(cfg.Host); !os.IsNotExist(err) {
		t.Errorf("after the command the socket folder is still there: %v", err)
	}
}
