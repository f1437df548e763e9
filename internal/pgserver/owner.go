package pgserver

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// owner is the user the server runs as. Postgres refuses to run as root.
type owner struct {
	uid, gid int
	name     string
	drop     bool // we are root and become this user for the server
}

// serverOwner is ourselves, or for root the owner of the data if there is some,
// else postgres, else nobody.
func serverOwner(data string) (owner, error) {
	if os.Geteuid() != 0 {
		return owner{uid: os.Geteuid(), gid: os.Getegid(), name: "you"}, nil
	}
	if info, err := os.Stat(data); err == nil {
		if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != 0 {
			// The machine may have got a postgres user after the data was made as nobody.
			o := owner{uid: int(st.Uid), gid: int(st.Gid), name: strconv.Itoa(int(st.Uid)), drop: true}
			if u, err := user.LookupId(o.name); err == nil {
				o.name = u.Username
			}
			return o, nil
		}
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.Atoi(u.Uid)
		if err != nil || uid == 0 {
			continue
		}
		gid, err := strconv.Atoi(u.Gid)
		if err != nil {
			continue
		}
		return owner{uid: uid, gid: gid, name: name, drop: true}, nil
	}
	return owner{}, errors.New("postgres does not run as root, and there is neither a user postgres nor nobody to run it as: " +
		"start this program as an ordinary user")
}

// credential is what the child process becomes; nil means it stays what we are.
func (o owner) credential() *syscall.Credential {
	if !o.drop {
		return nil
	}
	return &syscall.Credential{Uid: uint32(o.uid), Gid: uint32(o.gid)}
}

// give hands a file or folder to the server's user.
func (o owner) give(path string) error {
	if !o.drop {
		return nil
	}
	return os.Chown(path, o.uid, o.gid)
}

// reachable says which folder on the way to path is closed to the server's
// user. It matters for root only, whose home nobody else may enter.
func reachable(path string, o owner) error {
	if !o.drop {
		return nil
	}
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return fmt.Errorf("look at %s: %w", path, err)
	}
	for dir := path; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return fmt.Errorf("look at %s: %w", dir, err)
		}
		if !enterable(info, o) {
			return fmt.Errorf("%s is closed to the user %s, as whom postgres runs because it refuses to run as root: "+
				"take another folder, or open this one with chmod o+x", dir, o.name)
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

func enterable(info fs.FileInfo, o owner) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return true
	}
	switch perm := info.Mode().Perm(); {
	case int(st.Uid) == o.uid:
		return perm&0o100 != 0
	case int(st.Gid) == o.gid:
		return perm&0o010 != 0
	default:
		return perm&0o001 != 0
	}
}
