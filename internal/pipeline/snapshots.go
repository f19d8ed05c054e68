package pipeline

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/adhocore/gronx"

	"tidemark/catalog"
	"tidemark/internal/basesnapshot"
	"tidemark/internal/fault"
	"tidemark/segment"
	"tidemark/walstream"
)

// snapshotNeeds gathers reasons for a base snapshot: a new history, a gap, a relation that the newest
// snapshot does not know as the stream shows it (DDL is not in the stream).
type snapshotNeeds struct {
	wake chan struct{}

	mu      sync.Mutex
	reason  string            // "" for no need
	known   map[string]string // relation -> its columns as the newest snapshot or the stream had them; nil: not loaded
	changed segment.LSN       // newest commit at which a relation had changed
}

func newSnapshotNeeds() *snapshotNeeds {
	return &snapshotNeeds{wake: make(chan struct{}, 1)}
}

func (n *snapshotNeeds) request(reason string) {
	n.mu.Lock()
	n.reason = reason
	n.mu.Unlock()
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// relation is told each definition that the stream sends, with the commit LSN of its transaction.
func (n *snapshotNeeds) relation(r *segment.Relation, commit segment.LSN) {
	shape := relationShape(r)
	n.mu.Lock()
	known, loaded := n.known[r.String()]
	differs := n.known != nil && (!loaded || known != shape)
	if differs {
		n.known[r.String()] = shape
		n.changed = commit
	}
	n.mu.Unlock()
	if differs {
		n.request(fmt.Sprintf("table %s changed or is new since the last base snapshot", r))
	}
}

// taken is told of a finished snapshot at lsn and what it holds.
func (n *snapshotNeeds) taken(lsn segment.LSN, m *basesnapshot.Manifest) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.changed < lsn {
		n.reason = ""
		n.known = manifestShapes(m)
	}
}

func (n *snapshotNeeds) pending() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.reason
}

// relationShape is what must not change for rows to fit: column names in their order, and types.
func relationShape(r *segment.Relation) string {
	var b strings.Builder
	for _, c := range r.Columns {
		fmt.Fprintf(&b, "%q %d,", c.Name, c.TypeOID)
	}
	return b.String()
}

func manifestShapes(m *basesnapshot.Manifest) map[string]string {
	shapes := make(map[string]string, len(m.Tables))
	for _, t := range m.Tables {
		var b strings.Builder
		for _, c := range t.Columns {
			if c.Generated == "" {
				fmt.Fprintf(&b, "%q %d,", c.Name, c.TypeOID)
			}
		}
		shapes[t.Namespace+"."+t.Name] = b.String()
	}
	return shapes
}

// snapshotPause is the least time between two base snapshots that changed relations ask for, as a multiple
// of the last one's duration: taking them must not become all that the source does.
const snapshotPause = 10

// snapshots takes the first base snapshot, later ones when something needs them, and those of the schedule,
// until ctx ends.
func (r *runner) snapshots(ctx context.Context, stop <-chan struct{}, first *walstream.CreatedSlot) error {
	if err := r.initialSnapshot(ctx, first); err != nil {
		return err
	}
	if err := r.resolveUntil(ctx); err != nil {
		return err
	}
	var took time.Duration
	for {
		next := r.nextScheduled()
		select {
		case <-ctx.Done():
			return nil
		case <-stop:
			return nil
		case <-r.needs.wake:
		case <-next:
			r.needs.request("scheduled")
		}
		reason := r.needs.pending()
		if reason == "" {
			continue
		}
		started := time.Now()
		if err := r.insistOnSnapshot(ctx, reason, nil); err != nil {
			return err
		}
		took = time.Since(started)
		select {
		case <-time.After(min(snapshotPause*took, time.Hour)):
		case <-ctx.Done():
			return nil
		case <-stop:
			return nil
		}
	}
}

// nextScheduled returns a channel that fires at the schedule's next time; nil without a schedule.
func (r *runner) nextScheduled() <-chan time.Time {
	if r.cfg.SnapshotSchedule == "" {
		return nil
	}
	now := time.Now().UTC()
	at, err := gronx.NextTickAfter(r.cfg.SnapshotSchedule, now, false)
	if err != nil {
		return nil // checked before the start
	}
	return time.After(at.Sub(now))
}

// initialSnapshot makes sure that the newest history has a base snapshot and knows its tables.
func (r *runner) initialSnapshot(ctx context.Context, first *walstream.CreatedSlot) error {
	if first != nil {
		defer closeSlot(first)
		return r.insistOnSnapshot(ctx, "the archive is new", &basesnapshot.Exported{Name: first.SnapshotName, LSN: first.ConsistentPoint})
	}
	newest, ok := newestSnapshot(r.catalog.View())
	if !ok {
		return r.insistOnSnapshot(ctx, "the history has none", nil)
	}
	r.metrics.hasSnapshot.Store(true)
	r.announce()
	r.metrics.snapshotTime.Set(float64(newest.Snapshot.Time.Time().Unix()))
	m, err := basesnapshot.ReadManifest(ctx, r.cfg.Store, newest.Snapshot)
	if err != nil {
		return err
	}
	r.needs.taken(newest.LSN, m)
	return nil
}

// newestSnapshot returns the newest history's newest base snapshot behind its last gap; ok is false if it
// has none.
func newestSnapshot(v *catalog.View) (newest catalog.SnapshotPoint, ok bool) {
	history, _ := v.Newest()
	var after segment.LSN
	for _, g := range v.Gaps() {
		if g.History == history.Number {
			after = max(after, g.To)
		}
	}
	for _, s := range v.Snapshots() {
		if s.History == history.Number && s.LSN >= max(after, newest.LSN) {
			newest, ok = s, true
		}
	}
	return newest, ok
}

// insistOnSnapshot tries until a snapshot is taken, ctx ends, or the reason of a failure is one that time
// does not mend.
func (r *runner) insistOnSnapshot(ctx context.Context, reason string, exported *basesnapshot.Exported) error {
	for pause := time.Second; ; pause = min(2*pause, time.Minute) {
		err := r.takeSnapshot(ctx, reason, exported)
		if err == nil || ctx.Err() != nil {
			return nil
		}
		r.metrics.errors.WithLabelValues("snapshot").Inc()
		switch fault.CodeOf(err) {
		case fault.Usage, fault.Damage, fault.Conflict:
			return err
		}
		// An exported snapshot serves once: its connection may be what failed.
		exported = nil
		r.log.Error("base snapshot failed, trying again", "err", err, "in", pause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
	}
}

func (r *runner) takeSnapshot(ctx context.Context, reason string, exported *basesnapshot.Exported) error {
	r.log.Info("base snapshot begins", "reason", reason)
	taker := snapshotTaker{cfg: &r.cfg, catalog: r.catalog, log: r.log}
	e, m, err := taker.take(ctx, exported)
	if err != nil {
		return err
	}
	r.needs.taken(e.From, m)
	r.metrics.hasSnapshot.Store(true)
	r.announce()
	r.metrics.snapshotTime.Set(float64(e.Snapshot.Time.Time().Unix()))
	r.metrics.entries.WithLabelValues(string(e.Kind)).Inc()
	return nil
}

// resolveUntil fixes the LSN of --until once a base snapshot exists: current means all that is written by
// then, so that what was archived can be restored.
func (r *runner) resolveUntil(ctx context.Context) error {
	if r.cfg.Until == "" {
		return nil
	}
	if r.cfg.Until != "current" {
		lsn, err := segment.ParseLSN(r.cfg.Until)
		r.until.Store(uint64(lsn))
		return err
	}
	conn, err := walstream.Connect(ctx, r.cfg.DSN)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	facts, err := readFacts(ctx, conn)
	if err != nil {
		return err
	}
	r.until.Store(uint64(facts.flush))
	return nil
}
