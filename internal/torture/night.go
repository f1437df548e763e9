package torture

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"dialer/internal/postgres"
	"dialer/internal/simulator"
)

// NightOptions says what a night is like. The zero value is an ordinary one.
type NightOptions struct {
	// Simulator is completed with the account of the tests, a ledger and, where they are
	// zero, seed 1 and a time scale of 50.
	Simulator simulator.Config
	Postgres  PostgresOptions
	// Accounts is how many accounts there are; 0 is one. Each has campaigns of its own:
	// see Campaign.
	Accounts int
	// Limit is each account's, in requests per second; 0: they share 1000.
	Limit int
	// Platform wraps the simulated platform; nil leaves it as it is.
	Platform func(http.Handler) http.Handler
}

// Night is a Postgres, a simulated platform and the nodes that dial the one with the
// other. The platform pushes receipts to the nodes that run, one after the other, as a
// balancer in front of them would.
type Night struct {
	Postgres  *Postgres
	Simulator *simulator.Simulator
	// Endpoint is where nodes find the platform, and Database where they find Postgres.
	// A test puts a proxy in between by changing them before Prepare and StartNode.
	Endpoint, Database string
	// Ledger is the file of what truly happened at the platform: see Requests.
	Ledger string
	// State is the folder in which the nodes remember, as processes of one machine.
	State string

	t        testing.TB
	accounts int
	limit    int // of each
	nodes    balancer

	mu    sync.Mutex
	pools map[*Postgres]*postgres.DB
}

// suffix tells the accounts of a night apart: the first has none.
func suffix(account int) string {
	if account == 0 {
		return ""
	}
	return strconv.Itoa(account + 1)
}

// The accounts of a night: tests, tests2 and so on, with the keys id, id2 and so on.
const (
	nightLimit         = 1000 // of all together
	nightAccount       = "tests"
	nightKeyID         = "id"
	nightKeySecret     = "secret"
	nightReceiptSecret = "tests-tests-tests-tests-tests-tests"
)

// NewNight starts Postgres, brings its schema up to date, and starts the platform.
func NewNight(t testing.TB, opts NightOptions) *Night {
	t.Helper()
	n := &Night{Postgres: StartPostgres(t, opts.Postgres), Ledger: filepath.Join(t.TempDir(), "simulator.jsonl"), State: t.TempDir(), t: t, pools: make(map[*Postgres]*postgres.DB)}
	n.Database = n.Postgres.URL()
	file, err := os.Create(n.Ledger)
	if err != nil {
		t.Fatal(err)
	}
	config := opts.Simulator
	n.accounts = max(opts.Accounts, 1)
	n.limit = cmp.Or(opts.Limit, nightLimit/n.accounts)
	config.Accounts = make(map[string]simulator.Account)
	for i := range n.accounts {
		config.Accounts[nightKeyID+suffix(i)] = simulator.Account{
			Name: nightAccount + suffix(i), Secret: nightKeySecret, Limit: n.limit,
			PushURL: "http://node.invalid/receipts/" + nightAccount + suffix(i) + "/" + nightReceiptSecret,
		}
	}
	n.nodes.transport.DialContext = n.nodes.dial
	config.Ledger, config.Transport = file, &n.nodes
	if config.TimeScale == 0 {
		config.TimeScale = 50
	}
	if config.Seed == 0 {
		config.Seed = 1
	}
	if n.Simulator, err = simulator.New(config); err != nil {
		t.Fatal(err)
	}
	var platform http.Handler = n.Simulator
	if opts.Platform != nil {
		platform = opts.Platform(platform)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: platform, ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("the platform: %v", err)
		}
	})
	n.Endpoint = "http://" + ln.Addr().String()
	t.Cleanup(func() {
		err := srv.Close()
		serving.Wait()
		n.nodes.transport.CloseIdleConnections()
		if err := errors.Join(err, n.Simulator.Close(), file.Close()); err != nil {
			t.Error(err)
		}
	})
	n.Dialer("migrate")
	return n
}

// StartNode starts a node of the night, to which receipts are pushed while it runs.
func (n *Night) StartNode(t testing.TB, opts NodeOptions) *Node {
	t.Helper()
	opts.Env = append(append(n.env(n.Database), "DIALER_STATE="+n.State), opts.Env...)
	node := StartNode(t, opts)
	n.nodes.add(node)
	return node
}

func (n *Night) env(database string) []string {
	env := []string{"DATABASE_URL=" + database, "TEST_KEY_SECRET=" + nightKeySecret, "TEST_RECEIPT_SECRET=" + nightReceiptSecret}
	for i := range n.accounts {
		env = append(env, "TEST_KEY_ID"+suffix(i)+"="+nightKeyID+suffix(i))
	}
	return env
}

// Dialer runs a command of the program as a shell would, past every proxy, and returns
// what it prints. The test ends if it fails.
func (n *Night) Dialer(args ...string) (stdout string) {
	n.t.Helper()
	stdout, stderr, err := n.Try(args...)
	if err != nil {
		n.t.Fatalf("dialer %s: %v: %s", strings.Join(args, " "), err, stderr)
	}
	return stdout
}

// Try is Dialer for a command that may fail.
func (n *Night) Try(args ...string) (stdout, stderr string, err error) {
	n.t.Helper()
	cmd := exec.Command(Build(n.t), args...)
	cmd.Env = append(append(os.Environ(), n.env(n.Postgres.URL())...), "DIALER_STATE="+n.State)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

// Check holds what the dialer believes against what happened, and fails the test for
// each invariant that does not hold.
func (n *Night) Check(rules Rules) Report {
	n.t.Helper()
	f, err := os.Open(n.Ledger)
	if err != nil {
		n.t.Fatal(err)
	}
	defer f.Close()
	report, err := Check(n.t.Context(), n.DB().Pool(), f, rules)
	if err != nil {
		n.t.Fatal(err)
	}
	if err := report.Summary(n.t.Output()); err != nil {
		n.t.Error(err)
	}
	for _, finding := range report.Findings {
		n.t.Errorf("%s does not hold, %d times: %s", finding.Name, finding.Violations, finding.Says)
	}
	return report
}

const (
	nightAccountFile = `account: tests%[1]s
endpoint: %[2]s
access_key_id: ${TEST_KEY_ID%[1]s}
access_key_secret: ${TEST_KEY_SECRET}
receipt_secret: ${TEST_RECEIPT_SECRET}
limit: %[3]d
caller_ids:
  - {number: "057100000000", lines: 60000}
`
	nightCampaignFile = `campaign: %s
account: tests%s
caller_ids: ["057100000000"]
call:
  voice_code: "greeting.wav,$name$"
  voice_code_param: {name: "{姓名}您好"}
windows: ["00:00-24:00"]
`
)

// Account applies the files of the accounts: their endpoint is that of the night.
func (n *Night) Account() {
	n.t.Helper()
	for i := range n.accounts {
		n.Dialer("account", "apply", n.write("account.yaml", fmt.Sprintf(nightAccountFile, suffix(i), n.Endpoint, n.limit)))
	}
}

// Campaign applies a campaign of the first account with further lines of its file and
// imports contacts whose numbers begin at the given one. It is not started.
func (n *Night) Campaign(name string, first, contacts int, lines ...string) {
	n.t.Helper()
	n.CampaignOf(0, name, first, contacts, lines...)
}

// CampaignOf is Campaign for one of several accounts, counted from 0.
func (n *Night) CampaignOf(account int, name string, first, contacts int, lines ...string) {
	n.t.Helper()
	n.Dialer("campaign", "apply", n.write("campaign.yaml", fmt.Sprintf(nightCampaignFile, name, suffix(account))+strings.Join(append(lines, ""), "\n")))
	var file strings.Builder
	file.WriteString("手机号,姓名\n")
	for i := range contacts {
		fmt.Fprintf(&file, "%d,小明\n", first+i)
	}
	n.Dialer("import", name, n.write("contacts.csv", file.String()))
}

// Prepare applies the account and the campaign "greeting", imports that many contacts,
// and starts it: the next node dials.
func (n *Night) Prepare(t testing.TB, contacts int, lines ...string) {
	t.Helper()
	n.Account()
	n.Campaign("greeting", 13800000000, contacts, lines...)
	n.Dialer("campaign", "start", "greeting")
}

// DB opens the database, past every proxy. There is one pool for each server.
func (n *Night) DB() *postgres.DB {
	n.t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	if db := n.pools[n.Postgres]; db != nil {
		return db
	}
	db, err := postgres.Open(n.t.Context(), n.Postgres.URL())
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(db.Close)
	n.pools[n.Postgres] = db
	return db
}

// Quiet waits until the platform has nothing more to do: every call has ended and every
// report was acknowledged or given up.
func (n *Night) Quiet() {
	n.t.Helper()
	if err := n.Simulator.WaitQuiet(n.t.Context()); err != nil {
		n.t.Fatal(err)
	}
}

// Requests reads the ledger of the platform and returns the entries of SmartCall
// requests in their order. What happens after the last Quiet may be missing.
func (n *Night) Requests() []simulator.Entry {
	n.t.Helper()
	f, err := os.Open(n.Ledger)
	if err != nil {
		n.t.Fatal(err)
	}
	defer f.Close()
	var all []simulator.Entry
	for e, err := range simulator.ReadLedger(f) {
		if err != nil {
			n.t.Fatal(err)
		}
		if e.Kind == simulator.KindRequest {
			all = append(all, e)
		}
	}
	return all
}

func (n *Night) write(name, content string) string {
	n.t.Helper()
	path := filepath.Join(n.t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		n.t.Fatal(err)
	}
	return path
}

// balancer carries each push to a node that runs, in turn.
type balancer struct {
	transport http.Transport

	mu    sync.Mutex
	nodes []*Node
	turn  int
}

var errNoNode = errors.New("no node runs")

func (b *balancer) add(n *Node) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.nodes = append(b.nodes, n)
}

func (b *balancer) next() *Node {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.turn++
	for i := range b.nodes {
		if n := b.nodes[(b.turn+i)%len(b.nodes)]; n.Running() {
			return n
		}
	}
	return nil
}

// dial connects to a node in the network it runs in.
func (b *balancer) dial(ctx context.Context, _, address string) (net.Conn, error) {
	b.mu.Lock()
	var network *Namespace
	for _, n := range b.nodes {
		if n.Address() == address {
			network = n.opts.Network
		}
	}
	b.mu.Unlock()
	return network.dial(ctx, address)
}

// RoundTrip implements http.RoundTripper.
func (b *balancer) RoundTrip(req *http.Request) (*http.Response, error) {
	n := b.next()
	if n == nil {
		return nil, errNoNode
	}
	there := req.Clone(req.Context())
	there.URL.Host, there.Host = n.Address(), n.Address()
	return b.transport.RoundTrip(there)
}
