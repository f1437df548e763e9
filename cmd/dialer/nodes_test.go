package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"dialer/internal/postgres"
	"dialer/internal/simulator"
)

// shownNodes is what 'dialer nodes --json' prints.
type shownNodes struct {
	Nodes    []postgres.NodeStatus
	Accounts []postgres.AccountStatus
}

func (e environment) nodes(t *testing.T, args ...string) (shown shownNodes, text string) {
	t.Helper()
	text = e.must(t, append([]string{"nodes", "--json"}, args...)...)
	if err := json.Unmarshal([]byte(text), &shown); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return shown, text
}

// node returns the newest node of a name.
func (s shownNodes) node(name string) (found postgres.NodeStatus) {
	for _, n := range s.Nodes {
		if n.Name == name {
			found = n
		}
	}
	return found
}

// One node holds everything; a second one gets its share; the first dies, and the second
// has it all. At each moment the command says who holds what, and why not.
func TestNodes(t *testing.T) {
	t.Parallel()
	env := environment{"DATABASE_URL": startServer(t, folder(t)).URL()}
	env.must(t, "migrate")
	sim := simulate(t, simulator.Config{})
	sim.prepare(t, env, 20_000, "pace: 20")
	for i := range 4 {
		spare := strings.Replace(testAccount, "account: tests", fmt.Sprint("account: spare", i), 1)
		env.must(t, "account", "apply", write(t, "account.yaml", spare))
	}
	env.must(t, "account", "apply", write(t, "account.yaml", strings.NewReplacer("account: tests", "account: broken", "TEST_KEY_ID", "TEST_KEY_NOBODY_HAS").Replace(testAccount)))

	shown, text := env.nodes(t)
	if len(shown.Nodes) != 0 || len(shown.Accounts) != 6 || shown.Accounts[0].Why != "no node runs" {
		t.Errorf("without a node: %s", text)
	}
	blue := startProgram(t, env, "", "blue", "--listen", "127.0.0.1:0", "--lease", "1s")
	sim.pushTo(t, blue.address)
	eventually(t, 30*time.Second, "blue holds everything and dials", func() (bool, string) {
		shown, text = env.nodes(t)
		n := shown.node("blue")
		return n.State == "alive" && n.Accounts == 5 && n.PerSecond > 1 && n.PerSecond <= 22, text
	})
	// Now and then it tries whether that was mended, so it may hold it for a moment.
	eventually(t, 30*time.Second, "the command says why nobody holds the account without a key", func() (bool, string) {
		shown, text = env.nodes(t)
		why := shown.Accounts[0].Why
		return shown.Accounts[0].Account == "broken" && shown.Accounts[0].Node == 0 && strings.Contains(why, "the account is paused: ") &&
			strings.Contains(why, "blue cannot dial it: ") && strings.Contains(why, "TEST_KEY_NOBODY_HAS"), text
	})
	startProgram(t, env, "", "green", "--listen", "127.0.0.1:0", "--lease", "1s")
	eventually(t, 30*time.Second, "green has its share", func() (bool, string) {
		shown, text = env.nodes(t)
		return shown.node("blue").Accounts == 3 && shown.node("green").Accounts == 2, text
	})
	if shown.node("green").PerSecond != 0 {
		t.Errorf("the account that dials has moved, and the idle ones would have done: %s", text)
	}
	printed := env.must(t, "nodes")
	for _, want := range []string{"node ", "requests/s", "blue ", "green", "alive", "held by", "nobody"} {
		if !strings.Contains(printed, want) {
			t.Errorf("nodes does not say %q:\n%s", want, printed)
		}
	}
	blue.kill()
	eventually(t, 30*time.Second, "green holds everything", func() (bool, string) {
		shown, text = env.nodes(t)
		return shown.node("blue").State == "silent" && shown.node("blue").Accounts == 0 && shown.node("green").Accounts == 5 && shown.node("green").PerSecond > 1, text
	})
	if _, err := open(t, env["DATABASE_URL"]).Pool().Exec(t.Context(), `UPDATE node SET seen_at = seen_at - interval '1 hour' WHERE name = 'blue'`); err != nil {
		t.Fatal(err)
	}
	if shown, text := env.nodes(t); len(shown.Nodes) != 1 {
		t.Errorf("a node that is gone for an hour is listed: %s", text)
	}
	if shown, text := env.nodes(t, "--all"); len(shown.Nodes) != 2 {
		t.Errorf("--all does not list it: %s", text)
	}
}
