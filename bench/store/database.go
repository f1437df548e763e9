package store

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"regexp"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// create makes an empty database.
func create(ctx context.Context, admin *pgxpool.Pool, name string) error {
	for _, statement := range []string{`DROP DATABASE IF EXISTS ` + quote(name) + ` WITH (FORCE)`, `CREATE DATABASE ` + quote(name)} {
		if _, err := admin.Exec(ctx, statement); err != nil {
			return fmt.Errorf("make database %s: %w", name, err)
		}
	}
	return nil
}

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }

// urlOf names another database of the server behind a pool.
func urlOf(admin *pgxpool.Pool, name string) (string, error) {
	u, err := url.Parse(admin.Config().ConnString())
	if err != nil {
		return "", fmt.Errorf("the address of the database must be a URL: %w", err)
	}
	u.Path = "/" + name
	return u.String(), nil
}

var argument = regexp.MustCompile(`@(\w+)`)

// used returns those of the arguments that a statement names.
func used(statement string, args pgx.StrictNamedArgs) pgx.StrictNamedArgs {
	named := make(map[string]bool)
	for _, m := range argument.FindAllStringSubmatch(statement, -1) {
		named[m[1]] = true
	}
	left := maps.Clone(args)
	maps.DeleteFunc(left, func(name string, _ any) bool { return !named[name] })
	return left
}
