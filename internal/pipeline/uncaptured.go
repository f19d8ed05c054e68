package pipeline

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"tidemark/internal/basesnapshot"
	"tidemark/internal/ddl"
	"tidemark/segment"
)

// passage is how far the session's stream has come, and at which commits captured schema changes came by.
type passage struct {
	mu      sync.Mutex
	reached segment.LSN          // every commit before it came by
	changes []segment.LSN        // commits, in order
	xids    []uint32             // of captured changes, those of savepoints too
	scripts []uint32             // of those that don't tell in which savepoints they were
	indexes []basesnapshot.Index // that captured changes were about, as they were then
}

// wholeScript stands for the tag of a change of which not everything is known.
const wholeScript = ""

// explain is told of a captured change.
func (p *passage) explain(m *ddl.Message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.xids = append(append(p.xids, m.XID), m.XIDs...); len(p.xids) > 4*maxPassed {
		p.xids = slices.Delete(p.xids, 0, 2*maxPassed)
	}
	for _, o := range m.Objects {
		if o.Type == "index" {
			p.indexes = append(p.indexes, basesnapshot.Index{OID: o.OID, Name: o.Schema + "." + o.Name})
		}
	}
	p.indexes = p.indexes[max(len(p.indexes)-maxPassed, 0):]
	if m.Tag != wholeScript {
		return
	}
	if p.scripts = append(p.scripts, m.XID); len(p.scripts) > maxPassed {
		p.scripts = slices.Delete(p.scripts, 0, maxPassed/2)
	}
}

// wrote reports whether a captured change may have written what a transaction, or a savepoint's, wrote.
func (p *passage) wrote(xid uint32) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	// Savepoints come shortly after what they are in.
	return slices.Contains(p.xids, xid) || slices.ContainsFunc(p.scripts, func(x uint32) bool { return xid-x < 100_000 })
}

// made reports whether a captured change was about an index. It may have another name by now, or been built anew.
func (p *passage) made(index basesnapshot.Index) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(p.indexes, func(x basesnapshot.Index) bool { return x.OID == index.OID || x.Name == index.Name })
}

// strange names what no captured change explains.
func (p *passage) strange(w basesnapshot.Writes) (list []string) {
	for _, xid := range w.XIDs {
		if !p.wrote(xid) {
			list = append(list, fmt.Sprintf("transaction %d", xid))
		}
	}
	for _, index := range w.Revived {
		if !p.made(index) {
			list = append(list, "index "+index.Name)
		}
	}
	return list
}

const maxPassed = 4096

func (p *passage) reach(lsn segment.LSN) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reached = max(p.reached, lsn)
}

func (p *passage) changed(commit segment.LSN) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.changes); n > 0 && p.changes[n-1] == commit {
		return
	}
	if p.changes = append(p.changes, commit); len(p.changes) > maxPassed {
		p.changes = slices.Delete(p.changes, 0, maxPassed/2)
	}
}

// between reports whether a change came by from one position up to another, and whether the stream is past that.
func (p *passage) between(from, to segment.LSN) (changed, known bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i, _ := slices.BinarySearch(p.changes, from)
	return i < len(p.changes) && p.changes[i] <= to, p.reached >= to
}

// lastingWatch looks for changes of the schema that no event trigger is told of: REASSIGN OWNED, EXPLAIN ANALYZE CREATE TABLE AS, an index
// that REINDEX made valid, all that is done with event_triggers = off or to the catalogs themselves. The schema as it is now is
// compared with what it was at the last look. If it differs and no captured change came by in the stream, from before that look
// until after this one, something else changed it. Where rows of a catalog are written by nothing but such statements, moreover
// each transaction that wrote one must have come by with a captured change, and each index that became valid with one about it.
type lastingWatch struct {
	parts  map[string]string // nil: not looked yet
	good   segment.LSN       // flushed before the last look; a commit may be flushed well before others see it:
	before segment.LSN       // before the look before that
	next   time.Time
	open   []unexplained // not judged yet: the stream has not come so far
	writes basesnapshot.CatalogWrites
}

// unexplained is a difference between two looks.
type unexplained struct {
	from, to segment.LSN
	parts    []string // that differ
	writes   basesnapshot.Writes
}

// lookForUncaptured returns why the schema may have changed since a position without being captured; "" if it has not.
func (w *watch) lookForUncaptured(ctx context.Context, flush segment.LSN, thorough bool) (reason string, since segment.LSN, err error) {
	u := &w.lasting
	if reason, since := w.unexplained(); reason != "" {
		return reason, since, nil
	}
	started := time.Now()
	if !thorough || started.Before(u.next) {
		return "", 0, nil
	}
	parts, err := basesnapshot.LastingFingerprint(ctx, w.conn)
	if err != nil {
		return "", 0, err
	}
	written, err := u.writes.Next(ctx, w.conn)
	if err != nil {
		return "", 0, err
	}
	u.next = started.Add(max(schemaInterval, schemaShare*time.Since(started)))
	if u.parts != nil && (len(written.XIDs) > 0 || len(written.Revived) > 0 || !maps.Equal(u.parts, parts)) {
		x := unexplained{from: u.before, writes: written}
		if err := w.conn.QueryRow(ctx, "SELECT pg_current_wal_insert_lsn()::text").Scan(lsnScanner{&x.to}); err != nil {
			return "", 0, err
		}
		for name := range parts {
			if u.parts[name] != parts[name] {
				x.parts = append(x.parts, name)
			}
		}
		slices.Sort(x.parts)
		u.open = append(u.open, x)
	}
	u.parts, u.before, u.good = parts, u.good, flush
	return "", 0, nil
}

// unexplained judges the differences that the stream has passed.
func (w *watch) unexplained() (reason string, since segment.LSN) {
	u := &w.lasting
	for len(u.open) > 0 {
		x := u.open[0]
		changed, known := w.passage.between(x.from, x.to)
		if !known {
			return "", 0
		}
		u.open = u.open[1:]
		strange := w.passage.strange(x.writes)
		if len(strange) > 0 || len(x.parts) > 0 && !changed {
			return "the schema was changed (" + strings.Join(append(x.parts, strange...), ", ") + ") and the change was not captured (REASSIGN OWNED, EXPLAIN ANALYZE CREATE TABLE AS, REINDEX of an invalid index, event_triggers = off?)", x.from
		}
	}
	return "", 0
}
