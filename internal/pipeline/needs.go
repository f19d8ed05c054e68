package pipeline

import (
	"cmp"
	"fmt"
	"strings"
	"sync"

	"tidemark/internal/basesnapshot"
	"tidemark/segment"
)

// snapshotNeeds gathers reasons for a base snapshot: the schedule, and a relation that the newest snapshot
// does not know as the stream shows it (DDL is not in the stream). That a history has none at all is not
// among them: the catalog tells.
type snapshotNeeds struct {
	wake chan struct{}

	mu     sync.Mutex
	asked  string                   // why one was asked for; "": it wasn't
	reason string                   // which relation has changed; "": none has
	known  map[string]string        // relation -> its shape in the newest snapshot; nil: not loaded yet
	at     segment.LSN              // of that snapshot
	seen   map[string]shownRelation // relation -> as the stream showed it last
}

// shownRelation is a relation's shape as of a commit.
type shownRelation struct {
	shape  string
	commit segment.LSN
}

func newSnapshotNeeds() *snapshotNeeds {
	return &snapshotNeeds{wake: make(chan struct{}, 1), seen: map[string]shownRelation{}}
}

// request asks for a snapshot that begins from now on.
func (n *snapshotNeeds) request(reason string) {
	n.mu.Lock()
	n.asked = reason
	n.mu.Unlock()
	n.poke()
}

func (n *snapshotNeeds) poke() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// relation is told each definition that the stream sends, with the commit LSN of its transaction. Where schema
// changes are captured nobody tells: a restore replays them.
func (n *snapshotNeeds) relation(r *segment.Relation, commit segment.LSN) {
	n.mu.Lock()
	name, shown := r.String(), shownRelation{relationShape(r), commit}
	n.seen[name] = shown
	n.compare(name, shown)
	n.mu.Unlock()
}

// compare asks for a snapshot where the newest one does not fit a relation's later commits. A commit before
// the snapshot shows the relation as it was, and says nothing about it.
func (n *snapshotNeeds) compare(name string, shown shownRelation) {
	if n.known == nil || shown.commit < n.at || n.known[name] == shown.shape {
		return
	}
	n.reason = fmt.Sprintf("table %s changed or is new since the last base snapshot", name)
	n.poke()
}

// begins is told that a snapshot is about to be taken: it answers what was asked for before, and nothing that is asked
// for while it is on its way.
func (n *snapshotNeeds) begins() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked = ""
}

// taken is told of a finished snapshot at lsn and what it holds. Relations that changed after lsn, maybe while
// it was being taken, need another.
func (n *snapshotNeeds) taken(lsn segment.LSN, m *basesnapshot.Manifest) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.reason, n.at, n.known = "", lsn, manifestShapes(m)
	for name, shown := range n.seen {
		n.compare(name, shown)
	}
}

// restart forgets everything, for a new history: its LSNs may be low again.
func (n *snapshotNeeds) restart() {
	n.mu.Lock()
	n.asked, n.reason, n.at, n.known = "", "", 0, nil
	clear(n.seen)
	n.mu.Unlock()
	n.poke()
}

func (n *snapshotNeeds) pending() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return cmp.Or(n.asked, n.reason)
}

// relationShape is what must not change for rows to fit: column names in their order, types and lengths.
func relationShape(r *segment.Relation) string {
	var b strings.Builder
	for _, c := range r.Columns {
		addShape(&b, c.Name, c.TypeOID, modifierText(c.TypeOID, c.Modifier))
	}
	return b.String()
}

func manifestShapes(m *basesnapshot.Manifest) map[string]string {
	shapes := make(map[string]string, len(m.Tables))
	for _, t := range m.Tables {
		var b strings.Builder
		for _, c := range t.Columns {
			if c.Generated == "" {
				addShape(&b, c.Name, c.TypeOID, printedModifier(c.TypeOID, c.Type))
			}
		}
		shapes[t.String()] = b.String()
	}
	return shapes
}

func addShape(b *strings.Builder, name string, oid uint32, modifier string) {
	fmt.Fprintf(b, "%q %d%s,", name, oid, modifier)
}
