package main

import (
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dialer/internal/postgres"
	"dialer/internal/postgres/postgrestest"
)

const (
	testAccount = `account: tests
endpoint: http://127.0.0.1:1
access_key_id: ${TEST_KEY_ID}
access_key_secret: ${TEST_KEY_SECRET}
limit: 1000
caller_ids:
  - {number: "057100000000", lines: 60000}
`
	testCampaign = `campaign: greeting
account: tests
caller_ids: ["057100000000"]
call:
  voice_code: "greeting.wav,$name$"
  voice_code_param: {name: "{姓名}您好"}
windows: ["00:00-24:00"]
`
	liveAccount = `account: real
endpoint: https://smartcall.example
live: true
access_key_id: ${TEST_KEY_ID}
access_key_secret: ${TEST_KEY_SECRET}
caller_ids:
  - {number: "057100000000", lines: 10}
`
)

var secretless = environment{"TEST_KEY_ID": "id", "TEST_KEY_SECRET": "secret"}

// rows counts everything that a command could have added.
func rows(t *testing.T, db *postgres.DB) int {
	t.Helper()
	return count(t, db, `SELECT (SELECT count(*) FROM account) + (SELECT count(*) FROM campaign_version) + (SELECT count(*) FROM contact)
		+ (SELECT count(*) FROM import) + (SELECT count(*) FROM run) + (SELECT count(*) FROM suppression) + (SELECT count(*) FROM node)`)
}

func TestBadInput(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := closed.Addr().String()
	closed.Close()
	url := postgrestest.URL(t)
	env := environment{"DATABASE_URL": url, "TEST_KEY_ID": "id", "TEST_KEY_SECRET": "secret"}
	env.must(t, "account", "apply", write(t, "account.yaml", testAccount))
	env.must(t, "account", "apply", write(t, "live.yaml", liveAccount))
	env.must(t, "campaign", "apply", write(t, "campaign.yaml", testCampaign))
	db := open(t, url)
	before := rows(t, db)

	importing := []string{"import", "greeting", "FILE"}
	applying := []string{"campaign", "apply", "FILE"}
	tests := []struct {
		name string
		args []string
		file string // name of FILE; its content is next
		text string
		env  environment // replaces single variables
		code int
		want []string // in the sentence on standard error: where, what, and the cure
		not  string
	}{
		{name: "empty file", args: importing, file: "empty.csv", code: exitUsage,
			want: []string{"empty.csv", "empty", "needs a line with the names of the columns"}},
		{name: "no column of numbers", args: importing, file: "nophone.csv", text: "姓名,门店\n小明,西湖\n", code: exitUsage,
			want: []string{"nophone.csv", `"姓名", "门店"`, "name it 手机号, or set columns.phone"}},
		{name: "column that is spoken missing", args: importing, file: "noname.csv", text: "手机号,门店\n13800000000,西湖\n", code: exitUsage,
			want: []string{"noname.csv", "{姓名}", `it has "手机号", "门店"`}},
		{name: "header only", args: importing, file: "header.csv", text: "手机号,姓名\n", code: exitFailure,
			want: []string{"header.csv", "no contacts below its header"}},
		{name: "no header", args: importing, file: "bare.csv", text: "13800000000,小明\n", code: exitUsage,
			want: []string{"bare.csv", "first line", "put a line such as 手机号,姓名 above it"}, not: "13800000000"},
		{name: "wrong delimiter", args: []string{"import", "--delimiter", ";", "greeting", "FILE"}, file: "comma.csv", text: "手机号,姓名\n13800000000,小明\n", code: exitUsage,
			want: []string{"comma.csv", "split at ';'", "holds ','", "delimiter may be wrong"}},
		{name: "no delimiter", args: []string{"import", "--delimiter", "x", "greeting", "FILE"}, file: "comma.csv", text: "手机号,姓名\n", code: exitUsage,
			want: []string{"--delimiter", `"x"`, "one of , ; | or tab"}},
		{name: "columns of one name", args: importing, file: "twice.csv", text: "手机号,姓名,姓名\n13800000000,a,b\n", code: exitUsage,
			want: []string{"twice.csv", "columns 2 and 3", `"姓名"`, "rename one"}},
		{name: "one very long record", args: importing, file: "long.csv", text: "手机号,姓名\n13800000000,小明\n13800000001,\"" + strings.Repeat("x", 2<<20) + "\"\n", code: exitFailure,
			want: []string{"long.csv", "line 3", "quote"}},
		{name: "zero bytes in the header", args: importing, file: "nul.csv", text: "手机号,姓\x00名\n13800000000,小明\n", code: exitUsage,
			want: []string{"nul.csv", "zero bytes", "save it as CSV UTF-8"}},
		{name: "header in no encoding", args: importing, file: "latin.csv", text: "phone,\xff\xff\xfe\n13800000000,a\n", code: exitUsage,
			want: []string{"latin.csv", "column 2", "save the file as CSV UTF-8"}},
		{name: "contacts missing", args: []string{"import", "greeting", "nowhere.csv"}, code: exitUsage,
			want: []string{"nowhere.csv", "no such file"}},
		{name: "unknown campaign", args: []string{"import", "greting", "FILE"}, file: "c.csv", text: "手机号,姓名\n13800000000,小明\n", code: exitFailure,
			want: []string{"campaign", `"greting"`}},
		{name: "start of an unknown campaign", args: []string{"campaign", "start", "nothing"}, code: exitFailure,
			want: []string{"campaign", `"nothing"`}},
		{name: "bad YAML", args: applying, file: "bad.yaml", text: "campaign: x\naccount: [tests\n", code: exitUsage,
			want: []string{"bad.yaml:", "not valid YAML"}},
		{name: "empty YAML", args: applying, file: "void.yaml", code: exitUsage,
			want: []string{"void.yaml", "empty"}},
		{name: "unknown key", args: applying, file: "key.yaml", text: testCampaign + "shedule: {cron: \"0 10 * * *\"}\n", code: exitUsage,
			want: []string{"key.yaml:8", `"shedule"`, "schedule"}},
		{name: "value out of range", args: applying, file: "range.yaml", text: testCampaign + "max_attempts: 0\n", code: exitUsage,
			want: []string{"range.yaml:8", "max_attempts"}},
		{name: "unknown account", args: applying, file: "acc.yaml", text: strings.Replace(testCampaign, "account: tests", "account: testes", 1), code: exitFailure,
			want: []string{`"testes"`, "dialer account apply FILE"}},
		{name: "caller ID of somebody else", args: applying, file: "id.yaml", text: strings.Replace(testCampaign, "057100000000", "057100000009", 1), code: exitFailure,
			want: []string{"caller_ids", "tests", "057100000009"}},
		{name: "sample on a live account", args: applying, file: "sample.yaml", text: strings.Replace(testCampaign, "account: tests", "account: real\nsample: true", 1), code: exitFailure,
			want: []string{"greeting", "sample: true", "live account real"}},
		{name: "campaign file missing", args: []string{"campaign", "apply", "nowhere.yaml"}, code: exitUsage,
			want: []string{"nowhere.yaml", "no such file"}},
		{name: "account file missing", args: []string{"account", "apply", "nowhere.yaml"}, code: exitUsage,
			want: []string{"nowhere.yaml", "no such file"}},
		{name: "secret in the account file", args: []string{"account", "apply", "FILE"}, file: "secret.yaml",
			text: strings.Replace(strings.Replace(testAccount, "account: tests", "account: other", 1), "${TEST_KEY_SECRET}", "LTAIhunter2hunter2", 1), code: exitUsage,
			want: []string{"secret.yaml:4", "access_key_secret", "${NAME}", "replace it"}, not: "hunter2"},
		{name: "elsewhere without live", args: []string{"account", "apply", "FILE"}, file: "notlive.yaml",
			text: strings.Replace(liveAccount, "live: true\n", "", 1), code: exitUsage,
			want: []string{"notlive.yaml:2", "endpoint", "write live: true"}},
		{name: "resume of an unknown account", args: []string{"account", "resume", "nothing"}, code: exitFailure,
			want: []string{"account", `"nothing"`}},
		{name: "no phone number", args: []string{"suppress", "add", "12"}, code: exitUsage, want: []string{"digits are missing", "a mobile has 11 digits"}},
		{name: "database down", args: []string{"campaign", "list"}, env: environment{"DATABASE_URL": "postgres://me:hunter2@" + nobody + "/x"}, code: exitFailure,
			want: []string{"connect to the database", nobody, "refused"}, not: "hunter2"},
		{name: "no URL of a database", args: []string{"campaign", "list"}, env: environment{"DATABASE_URL": "postgres://me:hunter2@[/x"}, code: exitFailure,
			want: []string{"database URL"}, not: "hunter2"},
		{name: "database that forgets", args: []string{"serve"}, code: exitFailure,
			want: []string{"fsync", "off", "switch it on"}},
		{name: "unknown command", args: []string{"campain", "list"}, code: exitUsage, want: []string{"campain", "dialer --help"}},
		{name: "unknown flag", args: []string{"campaign", "list", "--al"}, code: exitUsage, want: []string{"--al", "dialer --help"}},
		{name: "argument missing", args: []string{"import", "greeting"}, code: exitUsage, want: []string{"<file>", "dialer --help"}},
		{name: "simulator for everybody", args: []string{"simulate", "--listen", "0.0.0.0:0"}, code: exitUsage,
			want: []string{"--listen 0.0.0.0:0", "loopback only, such as 127.0.0.1:18080"}},
		{name: "simulator without credentials", args: []string{"simulate"}, code: exitUsage,
			want: []string{simulatorKeyID, simulatorSecret, "set"}},
		{name: "query that writes", args: []string{"sql", "DELETE FROM account"}, code: exitFailure, want: []string{"read-only"}},
		{name: "query with a mistake", args: []string{"sql", "SELECT nothing FROM report.attempt"}, code: exitFailure, want: []string{`"nothing"`}},
		{name: "demo in an old folder", args: []string{"demo", "--keep", "."}, code: exitUsage, want: []string{"--keep", "exists"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path, args := "", tt.args
			if tt.file != "" {
				path = write(t, tt.file, tt.text)
				args = append([]string(nil), tt.args...)
				args[len(args)-1] = path
			}
			env := environment{"DATABASE_URL": url}
			maps.Copy(env, secretless)
			maps.Copy(env, tt.env)
			code, stdout, stderr := env.dialer(t, args...)
			if code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			if !strings.HasPrefix(stderr, "dialer: ") {
				t.Errorf("no sentence of the program: %q", stderr)
			}
			for _, want := range tt.want {
				if !strings.Contains(stderr, want) {
					t.Errorf("does not say %q", want)
				}
			}
			if tt.not != "" && strings.Contains(stdout+stderr, tt.not) {
				t.Errorf("repeats %q", tt.not)
			}
			if len(stderr) > 2000 {
				t.Errorf("is %d bytes long", len(stderr))
			}
			if after := rows(t, db); after != before {
				t.Errorf("%d rows were added", after-before)
			}
			if path != "" {
				if files, err := os.ReadDir(filepath.Dir(path)); err != nil || len(files) != 1 {
					t.Errorf("leaves %v behind, %v", files, err)
				}
			}
			if t.Failed() {
				t.Logf("stderr: %.1000s", stderr)
			}
		})
	}
}

// A row that cannot be called does not stop the others: it is put aside, with line
// and reason.
func TestBadRowsArePutAside(t *testing.T) {
	url := postgrestest.URL(t)
	env := environment{"DATABASE_URL": url}
	maps.Copy(env, secretless)
	env.must(t, "account", "apply", write(t, "account.yaml", testAccount))
	env.must(t, "campaign", "apply", write(t, "campaign.yaml", testCampaign))
	path := write(t, "mixed.csv", "手机号,姓名\n13800000000,小明\n13800000001,小\x00红\n13800000002,小\xff\xff刚\n12,小李\n13800000004\n13800000000,小明\n13800000005,\n")
	stdout := env.must(t, "import", "greeting", path)
	rejects := strings.TrimSuffix(path, ".csv") + ".rejects.csv"
	for _, want := range []string{"7 rows = 1 contacts + 1 duplicates + 5 rejects", rejects} {
		if !strings.Contains(stdout, want) {
			t.Errorf("does not say %q:\n%s", want, stdout)
		}
	}
	data, err := os.ReadFile(rejects)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"3,zero_byte,", "4,undecodable,", "5,", "6,ragged_row,", "7,duplicate,", "8,empty_variable,"} {
		if !strings.Contains(string(data), "\n"+want) {
			t.Errorf("no row %q in\n%s", want, data)
		}
	}
	db := open(t, url)
	if n := count(t, db, `SELECT count(*) FROM contact`); n != 1 {
		t.Errorf("%d contacts, want 1", n)
	}
	// The very same file once more adds nothing and says so.
	if stdout := env.must(t, "import", "greeting", path); !strings.Contains(stdout, "nothing added") {
		t.Errorf("the second time: %s", stdout)
	}
	if n := count(t, db, `SELECT count(*) FROM import`); n != 1 {
		t.Errorf("%d imports, want 1", n)
	}
}

func TestServeRefuses(t *testing.T) {
	env := environment{"DATABASE_URL": durable(t), "TEST_KEY_ID": "id", "TEST_KEY_SECRET": "secret"}
	refused := func(code int, args []string, want ...string) {
		t.Helper()
		got, _, stderr := env.dialer(t, args...)
		if got != code {
			t.Errorf("dialer %v: exit code %d, want %d", args, got, code)
		}
		for _, w := range want {
			if !strings.Contains(stderr, w) {
				t.Errorf("dialer %v does not say %q: %s", args, w, stderr)
			}
		}
	}
	refused(exitFailure, []string{"serve"}, "dialer migrate")
	if stdout := env.must(t, "migrate"); !strings.Contains(stdout, "migrations applied") {
		t.Errorf("migrate: %s", stdout)
	}
	if stdout := env.must(t, "migrate"); !strings.Contains(stdout, "up to date") {
		t.Errorf("migrate again: %s", stdout)
	}
	env.must(t, "account", "apply", write(t, "account.yaml", testAccount))
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	db := open(t, env["DATABASE_URL"])
	before := rows(t, db)
	refused(exitUsage, []string{"serve", "--listen", "8090"}, "--listen 8090", "such as 127.0.0.1:8090")
	refused(exitUsage, []string{"serve", "--listen", "0.0.0.0:0"}, "--listen 0.0.0.0:0", "account tests", "receipt_secret", "give it one in its file")
	refused(exitUsage, []string{"serve", "--listen", "127.0.0.1:0", "--proxy", "nonsense"}, "--proxy", "http://proxy.example:3128")
	refused(exitFailure, []string{"serve", "--listen", taken.Addr().String()}, "--listen", taken.Addr().String(), "choose another port")
	refused(exitFailure, []string{"run", "nothing"}, `"nothing"`)
	if after := rows(t, db); after != before {
		t.Errorf("%d rows were added", after-before)
	}
}
