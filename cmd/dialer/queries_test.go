package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"dialer/internal/postgres/postgrestest"
)

var sqlBlock = regexp.MustCompile("(?ms)^```sql[^\n]*\n(.*?)^```")

// Every query of the documentation runs as a reader would run it.
func TestQueriesOfTheDocumentation(t *testing.T) {
	data, err := os.ReadFile("../../docs/queries.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := sqlBlock.FindAllStringSubmatchIndex(string(data), -1)
	if len(blocks) < 12 {
		t.Errorf("docs/queries.md has %d queries, want 12 at least", len(blocks))
	}
	env := environment{"DATABASE_URL": postgrestest.URL(t)}
	for _, at := range blocks {
		query, line := string(data[at[2]:at[3]]), 1+strings.Count(string(data[:at[2]]), "\n")
		t.Run(fmt.Sprintf("line %d", line), func(t *testing.T) {
			if code, _, stderr := env.dialer(t, "sql", query); code != exitOK {
				t.Errorf("docs/queries.md:%d: exit code %d: %s\n%s", line, code, stderr, query)
			}
		})
	}
}

// What the demo shows as taken from the documentation is there, word for word.
func TestDemoQueriesAreOfTheDocumentation(t *testing.T) {
	data, err := os.ReadFile("../../docs/queries.md")
	if err != nil {
		t.Fatal(err)
	}
	words := func(s string) string { return strings.TrimSuffix(strings.Join(strings.Fields(s), " "), ";") }
	for _, q := range demoQueries {
		if !strings.Contains(words(string(data)), words(q.sql)) {
			t.Errorf("docs/queries.md does not have the query %q of the demo", q.title)
		}
	}
}
