package pgserver

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// rootState is where root keeps data and binaries: its own home is closed to
// the user the server runs as.
const rootState = "/var/lib/dialer"

// Folder makes the folder that Options.Dir names, if it is missing, and returns its path.
func Folder(named string) (string, error) {
	dir, err := dataParent(named)
	if err != nil {
		return "", err
	}
	return dir, makeFolder(dir)
}

// dataParent is the absolute path of the folder that holds the data folder.
func dataParent(named string) (string, error) {
	dir := named
	if dir == "" {
		var err error
		if dir, err = defaultParent(); err != nil {
			return "", err
		}
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("find the data folder %s: %w", dir, err)
	}
	return abs, nil
}

func defaultParent() (string, error) {
	if os.Geteuid() == 0 {
		return rootState, nil
	}
	if _, err := os.Stat(".dialer"); err == nil {
		return ".dialer", nil
	}
	if mod, err := os.ReadFile("go.mod"); err == nil && strings.HasPrefix(string(mod), "module dialer\n") {
		return ".dialer", nil
	}
	if state := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(state) {
		return filepath.Join(state, "dialer"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("no folder for the database: set HOME, or name a data folder: %w", err)
	}
	return filepath.Join(home, ".local", "state", "dialer"), nil
}

// cacheFolder is where fetched binaries are kept.
func cacheFolder() (string, error) {
	if os.Geteuid() == 0 {
		return filepath.Join(rootState, "cache"), nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no folder to keep fetched binaries in: set HOME: %w", err)
	}
	return filepath.Join(dir, "dialer"), nil
}

// newestData is the newest major version whose data is in dir, 0 for none.
func newestData(dir string) int {
	newest := 0
	found, _ := filepath.Glob(filepath.Join(dir, "pg*", "PG_VERSION")) // the pattern is constant but for dir
	for _, f := range found {
		major, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(filepath.Dir(f)), "pg"))
		if err == nil {
			newest = max(newest, major)
		}
	}
	return newest
}

// makeFolder makes a folder of ours: closed to others, but for root's, which
// the server's user must pass through. A folder that exists stays as it is.
func makeFolder(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	mode := fs.FileMode(0o700)
	if os.Geteuid() == 0 {
		mode = 0o755
	}
	if parent := filepath.Dir(dir); parent != dir {
		if err := makeFolder(parent); err != nil {
			return err
		}
	}
	err := os.Mkdir(dir, mode)
	if errors.Is(err, fs.ErrExist) {
		return nil // another process was quicker
	}
	if err == nil {
		err = os.Chmod(dir, mode) // whatever the umask
	}
	if err != nil {
		return fmt.Errorf("make the folder %s: %w", dir, err)
	}
	return nil
}

const (
	socketPrefix = "dialer-pg-"
	// maxSocketPath keeps clear of what sockaddr_un holds: 107 bytes on Linux, 103 on macOS.
	maxSocketPath = 100
)

// socketFolder returns a folder of its own for the socket, owned by the
// server's user and closed to others. It takes the folder used last time if
// nobody else has it, so that a process that joined finds the server again.
func socketFolder(last string, o owner) (string, error) {
	if last != "" && reuseSocketFolder(last, o) {
		return last, nil
	}
	var tooLong string
	for _, parent := range socketParents(o) {
		if len(parent)+len("/"+socketPrefix+"0123456789"+"/.s.PGSQL."+socketPort) > maxSocketPath {
			tooLong = parent
			continue
		}
		err := reachable(parent, o)
		if err != nil {
			return "", fmt.Errorf("make a folder for the database's socket (TMPDIR names another place): %w", err)
		}
		dir, err := os.MkdirTemp(parent, socketPrefix)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			continue
		}
		if err == nil {
			err = o.give(dir)
		}
		if err != nil {
			return "", fmt.Errorf("make a folder for the database's socket: %w", err)
		}
		return dir, nil
	}
	if tooLong != "" {
		return "", fmt.Errorf("the folder for temporary files, %s, has too long a name for a socket (%d bytes at most with the socket's own): "+
			"set TMPDIR to a shorter one, such as /tmp", tooLong, maxSocketPath)
	}
	return "", fmt.Errorf("no folder for the database's socket: cannot write in %s; set TMPDIR to a folder that can be written", os.TempDir())
}

// socketParents are the places for a socket folder, best first. The user's
// runtime folder comes second because it goes when the user logs out.
func socketParents(o owner) []string {
	parents := []string{os.TempDir()}
	if !o.drop {
		parents = append(parents, filepath.Join("/run/user", strconv.Itoa(o.uid)))
	}
	return parents
}

// reuseSocketFolder reports whether dir is again, or still, a closed folder of the server's user.
func reuseSocketFolder(dir string, o owner) bool {
	if !strings.HasPrefix(filepath.Base(dir), socketPrefix) {
		return false
	}
	if os.Mkdir(dir, 0o700) == nil {
		return o.give(dir) == nil
	}
	info, err := os.Lstat(dir) // not Stat: a link put there leads anywhere
	if err != nil || !info.IsDir() || info.Mode().Perm() != 0o700 {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == o.uid
}

// syncFolder makes a rename inside dir survive a power cut.
func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}
