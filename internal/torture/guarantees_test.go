package torture

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every test that docs/guarantees.md names as the proof of a promise is there.
func TestGuaranteesNameTestsThatExist(t *testing.T) {
	doc, err := os.ReadFile("../../docs/guarantees.md")
	must(t, err)
	var source strings.Builder
	must(t, filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		source.Write(text)
		return err
	}))
	names := regexp.MustCompile(`\bTest[A-Z]\w*(…?)`).FindAllString(string(doc), -1)
	if len(names) < 30 {
		t.Fatalf("the document names %d tests", len(names))
	}
	for _, name := range names {
		prefix, family := strings.CutSuffix(name, "…")
		if !family {
			prefix += "("
		}
		if !strings.Contains(source.String(), "\nfunc "+prefix) {
			t.Errorf("docs/guarantees.md names %s, which is no test", name)
		}
	}
}
