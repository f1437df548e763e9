package imports

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/gocarina/gocsv"
)

// Program is the first argument that makes this binary read a contact file with gocsv
// and do nothing with it: the part of an import's time that is not ours.
const Program = "gocsv"

type row struct {
	Phone string `csv:"手机号"`
}

// Serve reads the file that it is given.
func Serve(_ context.Context, args []string) error {
	if len(args) != 1 {
		return errors.New("give one file")
	}
	f, err := os.Open(args[0])
	if err != nil {
		return err
	}
	defer f.Close()
	rows, err := gocsv.NewUnmarshaller(csv.NewReader(f), row{})
	if err != nil {
		return err
	}
	for n := 1; ; n++ {
		if _, _, err := rows.ReadUnmatched(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("row %d: %w", n, err)
		}
	}
}
