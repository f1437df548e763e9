package pgserver

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestLongSocketFolderIsRefused(t *testing.T) {
	dir := openDir(t)
	long := filepath.Join(openDir(t), strings.Repeat("x", 118))
	if err := os.Mkdir(long, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", long)
	_, err := socketFolder("", owner{drop: true, uid: 1, name: "daemon"})
	if err == nil {
		t.Fatal("a socket folder of over 118 bytes was taken")
	}
	for _, want := range []string{long, "too long", "TMPDIR"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not say %q", err, want)
		}
	}
	s, err := Start(t.Context(), Options{Dir: dir, Fast: true})
	if err == nil { // an ordinary user has a second place, /run/user
		defer s.Close()
		if len(s.socket) > maxSocketPath {
			t.Errorf("started with the long folder %s", s.socket)
		}
	}
	if os.Geteuid() == 0 && err == nil {
		t.Error("root has no second place for the socket, and yet it started")
	}
}

func TestSocketFolderIsNotTakenFromOthers(t *testing.T) {
	me := owner{uid: os.Geteuid(), gid: os.Getegid(), name: "you"}
	parent := openDir(t)
	mine := filepath.Join(parent, socketPrefix+"1")
	if !reuseSocketFolder(mine, me) {
		t.Error("a folder that was free was not made again")
	}
	if !reuseSocketFolder(mine, me) {
		t.Error("our own closed folder was refused")
	}
	if reuseSocketFolder(mine, owner{uid: me.uid + 1, gid: me.gid}) {
		t.Error("somebody else's folder was taken")
	}
	link := filepath.Join(parent, socketPrefix+"2")
	if err := os.Symlink(mine, link); err != nil {
		t.Fatal(err)
	}
	if reuseSocketFolder(link, me) {
		t.Error("a link was followed")
	}
	if err := os.Chmod(mine, 0o755); err != nil {
		t.Fatal(err)
	}
	if reuseSocketFolder(mine, me) {
		t.Error("a folder open to others was taken")
	}
	if reuseSocketFolder(filepath.Join(parent, "elsewhere"), me) {
		t.Error("a folder that is not named like ours was taken")
	}
}

func TestRunsAsOrdinaryUser(t *testing.T) {
	dir := dataDir(t)
	s := mustStart(t, Options{Dir: dir, Fast: true})
	info, err := os.Stat(s.data)
	if err != nil {
		t.Fatal(err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		t.Fatal("no owner")
	}
	if st.Uid == 0 {
		t.Error("the data belongs to root")
	}
	if int(st.Uid) != s.owner.uid {
		t.Errorf("the data belongs to %d, the server runs as %d", st.Uid, s.owner.uid)
	}
	if s.owner.drop != (os.Geteuid() == 0) {
		t.Errorf("drop = %v as user %d", s.owner.drop, os.Geteuid())
	}
}

func TestDataKeepsItsOwner(t *testing.T) {
	data := filepath.Join(openDir(t), "pg15")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	want := os.Geteuid()
	if want == 0 {
		want = 12345 // as if an earlier start had found only this user
		if err := os.Chown(data, want, want); err != nil {
			t.Fatal(err)
		}
	}
	o, err := serverOwner(data)
	if err != nil {
		t.Fatal(err)
	}
	if o.uid != want {
		t.Errorf("the server would run as %d, the data belongs to %d", o.uid, want)
	}
}

func TestClosedParentIsNamed(t *testing.T) {
	closed := filepath.Join(openDir(t), "closed")
	inside := filepath.Join(closed, "inside")
	if err := os.MkdirAll(inside, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	someone := owner{uid: os.Geteuid() + 1, gid: os.Getegid() + 1, name: "postgres", drop: true}
	err := reachable(inside, someone)
	if err == nil {
		t.Fatal("a closed folder passed as open")
	}
	for _, want := range []string{closed + " is closed", "postgres", "chmod o+x"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not say %q", err, want)
		}
	}
	if err := reachable(inside, owner{uid: os.Geteuid()}); err != nil {
		t.Errorf("our own folder is closed to ourselves: %v", err)
	}
	if os.Geteuid() == 0 {
		if _, err := Start(t.Context(), Options{Dir: inside, Fast: true}); err == nil || !strings.Contains(err.Error(), "is closed") {
			t.Errorf("Start in a closed folder: %v", err)
		}
	}
}

func TestDefaultFolder(t *testing.T) {
	checkout, plain := openDir(t), openDir(t)
	if err := os.WriteFile(filepath.Join(checkout, "go.mod"), []byte("module dialer\n\ngo 1.26.0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	state := openDir(t)
	t.Setenv("XDG_STATE_HOME", state)
	for _, test := range []struct{ cwd, want string }{
		{checkout, filepath.Join(checkout, ".dialer")},
		{plain, filepath.Join(state, "dialer")},
	} {
		if os.Geteuid() == 0 {
			test.want = rootState
		}
		t.Chdir(test.cwd)
		got, err := dataParent("")
		if err != nil {
			t.Fatal(err)
		}
		if got != test.want {
			t.Errorf("in %s: got %s, want %s", test.cwd, got, test.want)
		}
	}
	if got, err := dataParent("here"); err != nil || got != filepath.Join(plain, "here") {
		t.Errorf("a named folder became %s, %v", got, err)
	}
}

func TestFolderOfAnotherUserIsRefused(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Log("root may open every lock")
		return
	}
	dir := openDir(t)
	if err := os.WriteFile(filepath.Join(dir, "pg15.lock"), nil, 0o000); err != nil {
		t.Fatal(err)
	}
	_, err := openLock(filepath.Join(dir, "pg15.lock"))
	if err == nil || !strings.Contains(err.Error(), "another user") {
		t.Errorf("got %v, want a word about another user", err)
	}
}
