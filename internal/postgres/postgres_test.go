package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"dialer/internal/campaign"
	"dialer/internal/postgres"
	"dialer/internal/postgres/postgrestest"
)

func TestOutIDInSQLIsOutIDInGo(t *testing.T) {
	t.Parallel()
	db := postgrestest.New(t)
	ids := []campaign.AttemptID{
		campaign.NewAttemptID(1, 1, 1),
		campaign.NewAttemptID(campaign.MaxCampaigns, campaign.MaxContacts, campaign.MaxTries),
	}
	for range 300 {
		ids = append(ids, campaign.NewAttemptID(campaign.ID(1+rand.IntN(campaign.MaxCampaigns)), int32(1+rand.IntN(campaign.MaxContacts)), 1+rand.IntN(campaign.MaxTries)))
	}
	key := db.OutIDKey()
	for _, id := range ids {
		want := key.OutID(id)
		var got string
		var back campaign.AttemptID
		if err := db.Pool().QueryRow(t.Context(), `SELECT out_id($1), attempt_id($2)`, id, want).Scan(&got, &back); err != nil {
			t.Fatal(err)
		}
		if got != want || back != id {
			t.Fatalf("attempt %d: %s in SQL, %s in Go; turned back: %d", id, got, want, back)
		}
	}
	for _, foreign := range []string{"", "ABC", "000000000000000", "ILOUILOUILOUILO", "an OutId of 15."} {
		var back *int64
		err := db.Pool().QueryRow(t.Context(), `SELECT attempt_id($1)`, foreign).Scan(&back)
		if _, ours := key.AttemptID(foreign); err != nil || back != nil || ours {
			t.Errorf("%q names attempt %v in SQL, %t in Go, %v", foreign, back, ours, err)
		}
	}
}

func TestMaskedInSQLIsMaskedInGo(t *testing.T) {
	t.Parallel()
	db := postgrestest.New(t)
	for phone, want := range map[campaign.Phone]string{
		13800000000: "138****0000",
		19900000001: "199****0001",
		57100000000: "0571****0000",
		1000000000:  "010****0000",
		2100000000:  "021****0000",
		7550000001:  "0755****0001",
	} {
		var got string
		if err := db.Pool().QueryRow(t.Context(), `SELECT masked($1)`, int64(phone)).Scan(&got); err != nil {
			t.Fatal(err)
		}
		if got != want || phone.Masked() != want {
			t.Errorf("%s in SQL, %s in Go, want %s", got, phone.Masked(), want)
		}
	}
}

func TestDurable(t *testing.T) {
	t.Parallel()
	address := postgrestest.URL(t)
	db, err := postgres.Open(t.Context(), address+"&synchronous_commit=off")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Durable(t.Context()); err == nil || !strings.Contains(err.Error(), "synchronous_commit") {
		t.Errorf("got %v", err)
	}
}

func TestIsTransient(t *testing.T) {
	t.Parallel()
	_, refused := postgres.Open(t.Context(), "postgres://nobody@127.0.0.1:1/none")
	for _, test := range []struct {
		err  error
		want bool
	}{
		{refused, true},
		{&pgconn.PgError{Code: "40001"}, true},
		{&pgconn.PgError{Code: "40P01"}, true},
		{&pgconn.PgError{Code: "25006"}, true},
		{&pgconn.PgError{Code: "55P03"}, true},
		{&pgconn.PgError{Code: "57P01"}, true},
		{&pgconn.PgError{Code: "53100"}, true},
		{&pgconn.PgError{Code: "08006"}, true},
		{&pgconn.PgError{Code: "58030"}, true},
		{&pgconn.PgError{Code: "57P03"}, true},
		{&pgconn.PgError{Code: "23505"}, false},
		{&pgconn.PgError{Code: "23505", ConstraintName: "attempt_pkey"}, false},
		{fmt.Errorf("write: %w", &pgconn.PgError{Code: "23505", ConstraintName: "progress_pkey"}), true},
		{&pgconn.PgError{Code: "22P05"}, false},
		{&pgconn.PgError{Code: "42P01"}, false},
		{&pgconn.PgError{Code: "P0001"}, false},
		{fmt.Errorf("write: %w", &pgconn.PgError{Code: "57P02"}), true},
		{fmt.Errorf("read: %w", io.ErrUnexpectedEOF), true},
		{io.EOF, true},
		{net.ErrClosed, true},
		{&net.OpError{Op: "read", Err: errors.New("connection reset by peer")}, true},
		{context.DeadlineExceeded, true},
		{context.Canceled, false},
		{campaign.ErrNotFound, false},
		{campaign.ErrLeaseLost, false},
		{errors.New("any other"), false},
		{nil, false},
	} {
		if got := postgres.IsTransient(test.err); got != test.want {
			t.Errorf("%v: got %t", test.err, got)
		}
	}
}
