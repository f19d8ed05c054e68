package catalog

import (
	"testing"

	"tidemark/objectstore"
)

// For the tests outside of the package.

var (
	TestIdentity = testIdentity
	At           = at
)

// Begun makes an archive of three entries: a claim, a history from 0/1000 and a snapshot there.
func Begun(t testing.TB, store objectstore.Store) *Log { return begun(t, store) }

// Synthesize adds the entries that next makes up to seq, a multiple of 64, in a fraction of the time that
// appending takes. Earlier roots and log objects that a reader does not need are left out.
func Synthesize(t testing.TB, store objectstore.Store, l *Log, seq uint64, next func(*View) Entry) *Log {
	return synthesizeOf(t, store, l, seq, next)
}

// Year makes an archive of 3,153,824 entries, of which the first book and the last 4,000 are there. Its
// snapshots all lie in the first few segments.
func Year(t testing.TB, store objectstore.Store, next func(*View) Entry) { yearOf(t, store, next) }
