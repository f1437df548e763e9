package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"dialer/migrations"
)

// schemaVersion is the number of the newest migration this program knows.
const schemaVersion = 8

// Migrate brings the schema of the database up to this program's, and returns how
// many migrations it ran. Any number of processes may call it at once: one does
// the work, the others wait. A database that is newer than the program is refused.
func Migrate(ctx context.Context, url string) (int, error) {
	cfg, err := direct(ctx, url)
	if err != nil {
		return 0, fmt.Errorf("migrate: %w", err)
	}
	sqlDB := stdlib.OpenDB(*cfg)
	defer sqlDB.Close()
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 300))
	if err != nil {
		return 0, fmt.Errorf("migrate: %w", err)
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, sqlDB, migrations.FS, goose.WithSessionLocker(locker))
	if err != nil {
		return 0, fmt.Errorf("migrate: %w", err)
	}
	has, err := provider.GetDBVersion(ctx)
	if err != nil {
		return 0, fmt.Errorf("migrate: connect to the database: %w", err)
	}
	if has > schemaVersion {
		return 0, tooNew(has)
	}
	done, err := provider.Up(ctx)
	if err != nil {
		return 0, fmt.Errorf("migrate: %w", err)
	}
	return len(done), nil
}

func tooNew(has int64) error {
	return fmt.Errorf("the database has schema %d and this program knows %d: use the newer program that made it", has, schemaVersion)
}

// checkSchema refuses a database whose schema is not exactly this program's.
func (db *DB) checkSchema(ctx context.Context) error {
	var has *int64
	err := db.pool.QueryRow(ctx, `SELECT to_regclass('goose_db_version')::oid::bigint`).Scan(&has)
	if err == nil && has != nil {
		err = db.pool.QueryRow(ctx, `SELECT max(version_id) FROM goose_db_version WHERE is_applied`).Scan(&has)
	}
	switch {
	case err != nil && err != pgx.ErrNoRows:
		return fmt.Errorf("read the schema's version: %w", err)
	case has == nil || *has < schemaVersion:
		return fmt.Errorf("the database's schema is older than this program: run 'dialer migrate'")
	case *has > schemaVersion:
		return tooNew(*has)
	}
	return nil
}
