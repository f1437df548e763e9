package campaign

import (
	"strconv"
	"strings"
)

// Trust is what a node makes of the database's memory of an account before it dials:
// a database that was restored, cloned or failed over may have forgotten intents, and
// then people who were called look as if nobody had called them.
type Trust int

const (
	// Trusted: somebody has vouched for the account on this server.
	Trusted Trust = iota
	// MayVouch: the server was only started again, or a standby took over for which every
	// commit had waited, and the node's own memory agrees with it.
	MayVouch
	// Unwitnessed: the same, but this node remembers nothing of the account. Another node
	// may; if none does, a person must say that the database is the right one.
	Unwitnessed
	// Replaced: it is another server, another timeline or another database. Only a
	// person can say what was lost on the way.
	Replaced
	// Forgotten: the node remembers batches that the database does not have.
	Forgotten
)

// NoMemory, as the newest batch known, means that a node remembers nothing of an account,
// not even that it had no batch yet.
const NoMemory = -1

// Judge compares the newest batch of an account in the database (0: none) with the newest
// that a node's journals know of. server is the server as it is, vouched the one that
// somebody has vouched for, both as the database's function server_now writes them.
// synchronous says that commits on that one waited for a standby.
func Judge(last, known int64, server, vouched string, synchronous bool) Trust {
	history := func(s string) string { h, _, _ := strings.Cut(s, "@"); return h }
	switch {
	case known > last:
		return Forgotten
	case server == vouched:
		return Trusted
	case history(server) != history(vouched) && !(synchronous && Promoted(server, vouched)):
		return Replaced
	case known != NoMemory || last == 0:
		return MayVouch
	}
	return Unwitnessed
}

// Promoted tells whether a server is the one before it, promoted once: the same database
// of the same cluster, and the next timeline. What was written between two promotions
// nobody knows.
func Promoted(server, before string) bool {
	parse := func(s string) (cluster, database string, timeline int) {
		s, _, _ = strings.Cut(s, "@")
		parts := strings.Split(s, "/")
		if len(parts) != 3 {
			return s, s, 0
		}
		timeline, _ = strconv.Atoi(parts[1])
		return parts[0], parts[2], timeline
	}
	cluster, database, timeline := parse(server)
	oldCluster, oldDatabase, oldTimeline := parse(before)
	return cluster == oldCluster && database == oldDatabase && timeline == oldTimeline+1
}
