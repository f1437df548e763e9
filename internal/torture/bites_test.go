package torture

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The known bugs of 'make bite' are patches of the source as it is, and name tests that
// exist. Whether those tests fail is for 'make bite' to say.
func TestBitesApply(t *testing.T) {
	patches, err := filepath.Glob("bites/*.patch")
	must(t, err)
	if len(patches) < 12 {
		t.Fatalf("%d patches: a dozen and more are needed", len(patches))
	}
	root, err := filepath.Abs("../..")
	must(t, err)
	for _, patch := range patches {
		text, err := os.ReadFile(patch)
		must(t, err)
		path, err := filepath.Abs(patch)
		must(t, err)
		// As script/bite does it: outside of any repository.
		check := exec.Command("git", "apply", "--check", path)
		check.Dir = root
		check.Env = append(os.Environ(), "GIT_CEILING_DIRECTORIES="+filepath.Dir(root), "GIT_DIR=/nonexistent")
		if out, err := check.CombinedOutput(); err != nil {
			t.Errorf("%s does not apply any more: %s", patch, out)
		}
		header := regexp.MustCompile(`(?m)^Bug: \S.*\nTest: (\S+) -run (\S+)$`).FindSubmatch(text)
		if header == nil {
			t.Errorf("%s does not begin with a line 'Bug: …' and a line 'Test: PACKAGE -run NAME'", patch)
			continue
		}
		source := testsOf(t, filepath.Join(root, string(header[1])))
		for name := range strings.SplitSeq(string(header[2]), "|") {
			if !regexp.MustCompile(`(?m)^func Test\w*` + strings.TrimPrefix(name, "Test")).MatchString(source) {
				t.Errorf("%s: %s has no test %s", patch, header[1], name)
			}
		}
	}
}

// testsOf is the text of a package's tests.
func testsOf(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	must(t, err)
	var all strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		must(t, err)
		all.Write(text)
	}
	return all.String()
}
