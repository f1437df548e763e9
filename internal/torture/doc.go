// Package torture holds the tools with which tests mistreat the whole program: real
// nodes in processes of their own that can be killed, stopped and started again (Node),
// a Postgres of the test's own (Postgres), a TCP proxy that cuts, delays and swallows
// (Proxy), one that loses the replies to commits (CommitProxy), and all of them put
// together to one night of dialling (Night). Only tests use it.
//
// The methods that a test calls in the middle of its faults return errors instead of
// ending the test, so that they may be called from any goroutine. Everything that a
// tool starts has ended when its test has: each child is ended by its process id, and
// on Linux dies with the test's process.
package torture
