package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dialer/internal/simulator"
)

// platform is a simulated SmartCall in the process of the test.
type platform struct {
	*simulator.Simulator
	endpoint, ledger string
	stop             func() error
}

const testReceiptSecret = "tests-tests-tests-tests-tests-tests"

// simulate starts a platform for the account of the tests; it ends with the test, or
// when its ledger is read.
func simulate(t *testing.T, config simulator.Config) *platform {
	t.Helper()
	p := &platform{ledger: filepath.Join(t.TempDir(), "simulator.jsonl")}
	file, err := os.Create(p.ledger)
	if err != nil {
		t.Fatal(err)
	}
	config.Accounts = map[string]simulator.Account{"id": {Name: "tests", Secret: "secret", Limit: 1000}}
	config.Ledger, config.TimeScale, config.Seed = file, 50, 1
	// A node dials as soon as it runs, and its calls are reported before a test has said
	// where to: pushes that nobody takes are repeated.
	config.PushURL = "http://127.0.0.1:1/nobody"
	if p.Simulator, err = simulator.New(config); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.endpoint = "http://" + ln.Addr().String()
	stop, stopped := serveSimulator(p.Simulator, ln), false
	p.stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		defer file.Close()
		return stop()
	}
	t.Cleanup(func() {
		if err := p.stop(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// pushTo makes the platform push receipts to the node that listens at address.
func (p *platform) pushTo(t *testing.T, address string) {
	t.Helper()
	if err := p.SetPushURL("http://" + address + "/receipts/tests/" + testReceiptSecret); err != nil {
		t.Fatal(err)
	}
}

// calls stops the platform and returns how many calls it placed for each number and
// for each OutId.
func (p *platform) calls(t *testing.T) (byCallee, byOutID map[string]int) {
	t.Helper()
	if err := p.stop(); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(p.ledger)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	byCallee, byOutID = make(map[string]int), make(map[string]int)
	for e, err := range simulator.ReadLedger(f) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind == simulator.KindRequest && e.Verdict == simulator.VerdictAccepted {
			byCallee[e.Callee]++
			byOutID[e.OutID]++
		}
	}
	return byCallee, byOutID
}

// prepare applies account and campaign, with further lines of its file, imports contacts and opens a run.
func (p *platform) prepare(t *testing.T, env environment, contacts int, lines ...string) {
	t.Helper()
	env["TEST_KEY_ID"], env["TEST_KEY_SECRET"], env["TEST_RECEIPT_SECRET"] = "id", "secret", testReceiptSecret
	account := strings.Replace(testAccount, "http://127.0.0.1:1\n", p.endpoint+"\nreceipt_secret: ${TEST_RECEIPT_SECRET}\n", 1)
	env.must(t, "account", "apply", write(t, "account.yaml", account))
	env.must(t, "campaign", "apply", write(t, "campaign.yaml", testCampaign+strings.Join(append(lines, ""), "\n")))
	var file strings.Builder
	file.WriteString("手机号,姓名\n")
	for n := range contacts {
		fmt.Fprintf(&file, "%d,小明\n", 13800000000+n)
	}
	env.must(t, "import", "greeting", write(t, "contacts.csv", file.String()))
	env.must(t, "campaign", "start", "greeting")
}
