package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"dialer/internal/campaign"
	"dialer/internal/postgres"
)

type importCommand struct {
	Campaign  string `arg:"" help:"The campaign to add to."`
	File      string `arg:"" help:"The CSV file; - for standard input."`
	Rejects   string `help:"Where refused rows go; default: FILE with .rejects.csv." placeholder:"FILE"`
	Sheet     string `help:"The sheet of an .xlsx file; default: the one that was open when it was saved." placeholder:"NAME"`
	Delimiter string `help:"What separates the columns: one of , ; | or tab; default: found in the header." placeholder:"CHAR"`
}

func (c importCommand) Run(ctx context.Context, a *app) error {
	delimiter, err := delimiterOf(c.Delimiter)
	if err != nil {
		return usageError{err}
	}
	return a.withCampaign(ctx, c.Campaign, func(db *postgres.DB, stored postgres.Campaign) error {
		in, name := a.stdin, "standard input"
		rejects := c.Rejects
		if c.File != "-" {
			f, err := os.Open(c.File)
			if err != nil {
				return usageError{err}
			}
			defer f.Close()
			if before, ok, err := importedBefore(ctx, db, stored.ID, f); err != nil {
				return err
			} else if ok {
				fmt.Fprintf(a.stdout, "%s: this very file was imported on %s with %d contacts; nothing added\n",
					c.File, before.At.Format("2006-01-02 15:04:05 MST"), before.Contacts)
				return nil
			}
			in, name = f, c.File
			if rejects == "" {
				rejects = strings.TrimSuffix(c.File, filepath.Ext(c.File)) + ".rejects.csv"
			}
		} else if rejects == "" {
			rejects = c.Campaign + ".rejects.csv"
		}
		_, err := importContacts(ctx, a, db, stored, in, name, rejects, c.Sheet, delimiter)
		return err
	})
}

func delimiterOf(s string) (rune, error) {
	switch s {
	case "":
		return 0, nil
	case ",", ";", "|":
		return rune(s[0]), nil
	case "tab", `\t`, "\t":
		return '\t', nil
	}
	return 0, fmt.Errorf("--delimiter %q: it is one of , ; | or tab", s)
}

// importedBefore tells whether the campaign has exactly this file already, and leaves
// the file at its beginning.
func importedBefore(ctx context.Context, db *postgres.DB, id campaign.ID, f *os.File) (postgres.Import, bool, error) {
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return postgres.Import{}, false, err
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return postgres.Import{}, false, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return postgres.Import{}, false, err
	}
	return db.Imported(ctx, id, [32]byte(sum.Sum(nil)))
}

// importContacts imports one file and says what became of its rows. The rejects file
// appears when the import is committed, and only if there is something in it.
func importContacts(ctx context.Context, a *app, db *postgres.DB, stored postgres.Campaign, in io.Reader, name, rejects, sheet string, delimiter rune) (postgres.Import, error) {
	src := &source{sum: sha256.New(), path: rejects, status: newStatus(a.stderr)}
	defer src.discard()
	reader, err := campaign.NewReader(io.TeeReader(in, src.sum), campaign.ReaderOptions{
		Columns: stored.Spec.Columns, Need: stored.Spec.Call.Placeholders(), Sheet: sheet, Delimiter: delimiter,
	})
	if err != nil {
		return postgres.Import{}, usageError{fmt.Errorf("%s: %w", name, err)}
	}
	defer reader.Close()
	src.reader = reader
	fmt.Fprintf(a.stdout, "%s: %s, numbers in column %q\n", name, reader.Format(), reader.PhoneColumn())
	imp, err := db.ImportContacts(ctx, stored.ID, filepath.Base(name), src, time.Now())
	src.status.clear()
	if err != nil {
		if ctx.Err() != nil {
			return imp, fmt.Errorf("import %s: stopped, nothing was added", name)
		}
		return imp, err
	}
	where, err := src.keep()
	if err != nil {
		return imp, err
	}
	fmt.Fprintf(a.stdout, "%d rows = %d contacts + %d duplicates + %d rejects", imp.Rows, imp.Contacts, imp.Duplicates, imp.Rejects)
	if where != "" {
		fmt.Fprintf(a.stdout, "; what was left out, and why: %s", where)
	}
	fmt.Fprintln(a.stdout)
	return imp, nil
}

// source feeds the contacts of a file into an import, and puts aside what is left out.
type source struct {
	reader *campaign.Reader
	sum    hash.Hash
	status *status
	rows   int
	path   string // of the rejects
	file   *os.File
	out    *campaign.RejectWriter
}

func (s *source) Next() (campaign.Contact, bool, error) {
	c, reject, err := s.reader.Next()
	if err != nil {
		return c, false, err
	}
	if s.rows++; s.rows%1000 == 0 {
		s.status.show("%d rows read", s.rows)
	}
	if reject != nil {
		return c, true, s.leaveOut(reject)
	}
	return c, false, nil
}

func (s *source) Duplicate(c campaign.Contact) error {
	fields := make([]string, 0, len(s.reader.Columns()))
	for _, column := range s.reader.Columns() {
		value := c.Vars[column]
		if column == s.reader.PhoneColumn() {
			value = c.Phone.Digits()
		}
		fields = append(fields, value)
	}
	return s.leaveOut(&campaign.Reject{Line: c.Line, Reason: "duplicate", Detail: "the campaign has this number already", Fields: fields})
}

func (s *source) SHA256() [32]byte { return [32]byte(s.sum.Sum(nil)) }

func (s *source) leaveOut(r *campaign.Reject) error {
	if s.out == nil {
		// Beside its final place, so that the rename is one step.
		f, err := os.CreateTemp(filepath.Dir(s.path), ".rejects-*")
		if err != nil {
			return fmt.Errorf("rejects: %w", err)
		}
		s.file = f
		if s.out, err = campaign.NewRejectWriter(f, s.reader.Columns()); err != nil {
			return err
		}
	}
	return s.out.Write(r)
}

// keep gives the rejects file its name, and returns it; "" if there is none.
func (s *source) keep() (string, error) {
	if s.out == nil {
		return "", nil
	}
	if err := errors.Join(s.out.Flush(), s.file.Close()); err != nil {
		return "", err
	}
	if err := os.Rename(s.file.Name(), s.path); err != nil {
		return "", fmt.Errorf("rejects: the contacts are imported, but: %w", err)
	}
	s.file = nil
	return s.path, nil
}

// discard removes a rejects file that was not kept.
func (s *source) discard() {
	if s.file != nil {
		s.file.Close()
		os.Remove(s.file.Name())
	}
}
