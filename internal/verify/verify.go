// Package verify reads an archive again and says what of it is damaged, and what can still be restored.
package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"tidemark/catalog"
	"tidemark/internal/basesnapshot"
	"tidemark/internal/fault"
	"tidemark/objectstore"
	"tidemark/segment"
)

// Level says how deep a verification looks.
type Level string

// The levels. Each includes those before it.
const (
	LevelCatalog  Level = "catalog"  // the catalog is whole; every object that it names is there with its size
	LevelChecksum Level = "checksum" // every object has its SHA-256
	LevelDecode   Level = "decode"   // every segment and snapshot decodes, and holds what the catalog says
)

// Options say how to verify.
type Options struct {
	Level Level // "": LevelChecksum
	Jobs  int   // objects read at the same time; 0: 4
	// Progress, if set, is told how many stored bytes are done, of how many. It is called by several
	// goroutines, one at a time.
	Progress func(done, total int64)
}

// Damage is an object that is not what the catalog says.
type Damage struct {
	Object  string      `json:"object"`           // key
	Offset  int64       `json:"offset"`           // byte where it was noticed, -1 where only the whole object is known to be wrong
	Problem string      `json:"problem"`          // one line
	Derived bool        `json:"derived"`          // a catalog object that only repeats what the log has
	Entry   uint64      `json:"entry,omitempty"`  // seq of the entry that names the object
	History uint32      `json:"history,omitzero"` // that entry's
	From    segment.LSN `json:"from_lsn,omitzero"`
	To      segment.LSN `json:"to_lsn,omitzero"`
}

// Note is something odd that takes nothing away from the archive.
type Note struct {
	Object string `json:"object"`
	Size   int64  `json:"size"` // bytes
	Note   string `json:"note"`
}

// Report is the result of a verification.
type Report struct {
	Archive      string           `json:"archive"` // id, "" if archive.json can't be read
	Level        Level            `json:"level"`
	Entries      uint64           `json:"entries"`      // of the catalog, as far as it can be read
	Segments     int64            `json:"segments"`     // looked at
	Snapshots    int64            `json:"snapshots"`    // looked at
	Objects      int64            `json:"objects"`      // of segments and snapshots
	Bytes        int64            `json:"bytes"`        // of them that were read
	Transactions int64            `json:"transactions"` // decoded
	Rows         int64            `json:"rows"`         // decoded: rows of snapshots, row operations of segments
	Damage       []Damage         `json:"damage"`
	Notes        []Note           `json:"notes"`
	NotesLeftOut int64            `json:"notes_left_out,omitempty"` // beyond the first 1,000
	Windows      []catalog.Window `json:"windows"`                  // what can be restored without any damaged object

	cut string // key of the first entry that is lost: the catalog is read up to there; "" if it is whole
}

// OK reports whether nothing is damaged.
func (r *Report) OK() bool { return len(r.Damage) == 0 }

const maxNotes = 1000

// Run verifies the archive in store. What is damaged is in the report and no error; an error says that
// the verification could not be finished (catalog.ErrNoArchive where there is nothing to verify). It may
// run beside an archiver: what is added meanwhile is not looked at.
func Run(ctx context.Context, store objectstore.Store, o Options) (*Report, error) {
	o.Level = cmp.Or(o.Level, LevelChecksum)
	o.Jobs = cmp.Or(o.Jobs, 4)
	v := &verifier{
		store: store, level: o.Level, jobs: o.Jobs, progress: o.Progress,
		report:      &Report{Level: o.Level, Damage: []Damage{}, Notes: []Note{}, Windows: []catalog.Window{}},
		badEntries:  map[uint64]bool{},
		badSnapshot: map[string]bool{},
	}
	if err := v.catalog(ctx); err != nil {
		return nil, err
	}
	if v.view != nil {
		if err := v.objects(ctx); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(v.report.Damage, func(a, b Damage) int {
		return cmp.Or(cmp.Compare(a.Object, b.Object), cmp.Compare(a.Offset, b.Offset))
	})
	return v.report, nil
}

// verifier is a running verification.
type verifier struct {
	store    objectstore.Store
	level    Level
	jobs     int
	progress func(done, total int64)
	view     *catalog.View // nil: the catalog can't be read

	mu          sync.Mutex // guards what follows
	report      *Report
	badEntries  map[uint64]bool // seqs of segments with damaged objects
	badSnapshot map[string]bool // ids
	done, total int64           // stored bytes
}

// catalog verifies the catalog and opens what is left of it.
func (v *verifier) catalog(ctx context.Context) error {
	hidden := map[string]bool{}
	err := catalog.Verify(ctx, v.store, func(d catalog.Damage) {
		v.report.Damage = append(v.report.Damage, Damage{Object: d.Object, Offset: d.Offset, Problem: d.Problem, Derived: d.Derived})
		if d.Derived {
			hidden[d.Object] = true
		}
	})
	if err != nil {
		return err
	}
	// A damaged book or root only repeats the log: without it, the log is read instead.
	store := without{v.store, hidden}
	log, err := catalog.Open(ctx, store)
	if err == nil {
		v.look(log.View())
		return nil
	}
	if err := v.catalogDamage(err); err != nil {
		return err
	}
	view, cut, err := catalog.OpenIntact(ctx, store)
	if err != nil {
		return v.catalogDamage(err)
	}
	v.report.cut = cut
	if view.Head().Seq > 0 {
		v.look(view)
	}
	return nil
}

// look takes a catalog, or what is left of it, for what the objects are compared with.
func (v *verifier) look(view *catalog.View) {
	v.view = view
	v.report.Archive, v.report.Entries = view.Identity().ID, view.Head().Seq
}

// catalogDamage takes damage that the catalog's own verification found, too, out of an error. Any other
// error is handed on.
func (v *verifier) catalogDamage(err error) error {
	d, ok := errors.AsType[*catalog.Damage](err)
	if !ok {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if !slices.ContainsFunc(v.report.Damage, func(known Damage) bool { return known.Object == d.Object }) {
		v.report.Damage = append(v.report.Damage, Damage{Object: d.Object, Offset: d.Offset, Problem: d.Problem, Derived: d.Derived})
	}
	return nil
}

// objects verifies segments and snapshots, lists what nothing names, and works out the windows.
func (v *verifier) objects(ctx context.Context) error {
	if err := v.measure(ctx); err != nil {
		return err
	}
	if err := v.present(ctx); err != nil {
		return err
	}
	group, ctx2 := errgroup.WithContext(ctx)
	group.SetLimit(v.jobs)
	err := v.eachSegment(ctx2, func(e catalog.Entry) { group.Go(func() error { return v.segment(ctx2, e) }) })
	for _, p := range v.view.Snapshots() {
		group.Go(func() error { return v.snapshot(ctx2, p) })
	}
	if err := cmp.Or(group.Wait(), err); err != nil {
		return err
	}
	windows, err := v.windows(ctx)
	if err == nil {
		v.report.Windows = append(v.report.Windows, windows...)
	}
	return err
}

// measure sums up what there is to read.
func (v *verifier) measure(ctx context.Context) error {
	for _, h := range v.view.Histories() {
		counts, err := v.view.Sums(ctx, catalog.Range{History: h.Number, From: h.Pruned})
		if err := v.catalogDamage(err); err != nil {
			return err
		}
		v.total += counts.StoredBytes
	}
	for _, p := range v.view.Snapshots() {
		v.total += p.Snapshot.StoredBytes
	}
	return nil
}

// eachSegment calls f for every segment that the catalog still names, history by history. Where the
// catalog is damaged it goes on at the next snapshot.
func (v *verifier) eachSegment(ctx context.Context, f func(catalog.Entry)) error {
	for _, h := range v.view.Histories() {
		err := v.eachEntry(ctx, h, func(e catalog.Entry) {
			if e.Kind == catalog.KindSegment {
				f(e)
			}
		}, func() {})
		if err != nil {
			return err
		}
	}
	return nil
}

// eachEntry calls f for the stream entries of a history, in order. Where the catalog is damaged it
// notes that, calls broken, and goes on at the next snapshot.
func (v *verifier) eachEntry(ctx context.Context, h catalog.HistoryPoint, f func(catalog.Entry), broken func()) error {
	for at := max(h.From, h.Pruned); ; {
		var failed error
		for e, err := range v.view.Entries(ctx, catalog.Range{History: h.Number, From: at}) {
			if err != nil {
				failed = err
				break
			}
			if e.To > at {
				at = e.To
				f(e)
			}
		}
		if failed == nil {
			return nil
		}
		if err := v.catalogDamage(failed); err != nil {
			return err
		}
		broken()
		next, ok := v.snapshotAfter(h.Number, at)
		if !ok {
			return nil
		}
		at = next
	}
}

func (v *verifier) snapshotAfter(history uint32, at segment.LSN) (next segment.LSN, ok bool) {
	for _, p := range v.view.Snapshots() {
		if p.History == history && p.LSN > at && (!ok || p.LSN < next) {
			next, ok = p.LSN, true
		}
	}
	return next, ok
}

// snapshot verifies a base snapshot.
func (v *verifier) snapshot(ctx context.Context, p catalog.SnapshotPoint) error {
	level := map[Level]basesnapshot.Level{
		LevelCatalog: basesnapshot.LevelPresent, LevelChecksum: basesnapshot.LevelChecksum, LevelDecode: basesnapshot.LevelDecode,
	}[v.level]
	seen, err := basesnapshot.Verify(ctx, v.store, p.Snapshot, level, func(c *segment.CorruptError) {
		v.damaged(Damage{Object: c.Name, Offset: c.Offset, Problem: c.Reason, Entry: p.Seq, History: p.History, From: p.LSN, To: p.LSN}, p.Snapshot.ID)
	})
	v.mu.Lock()
	defer v.mu.Unlock()
	v.report.Snapshots++
	v.report.Objects += seen.Objects
	v.report.Rows += seen.Rows
	if v.level != LevelCatalog {
		v.report.Bytes += seen.Bytes
		v.advance(seen.Bytes)
	}
	return err
}

// damaged adds to the report and remembers what can't be restored from any more: the snapshot of the
// id, or the entry where there is no id.
func (v *verifier) damaged(d Damage, snapshot string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.report.Damage = append(v.report.Damage, d)
	if snapshot != "" {
		v.badSnapshot[snapshot] = true
	} else {
		v.badEntries[d.Entry] = true
	}
}

// advance tells how far the reading is. The caller holds the lock.
func (v *verifier) advance(n int64) {
	v.done += n
	if v.progress != nil {
		v.progress(min(v.done, v.total), v.total)
	}
}

// Err returns nil if nothing is damaged, otherwise the fault that a command ends with.
func (r *Report) Err() error {
	if r.OK() {
		return nil
	}
	first := r.Damage[0]
	what := fmt.Sprintf("%s: %s", first.Object, first.Problem)
	if n := len(r.Damage) - 1; n > 0 {
		what += fmt.Sprintf(" (and %d more)", n)
	}
	hint := "the report names what can still be restored; keep the archive as it is, and take a new base snapshot with `archiver snapshot`"
	switch {
	case r.Entries == 0:
		hint = catalog.HintLost
	case r.cut != "":
		hint = "put the object back from a copy; without it, the windows that are still good can be restored from a copy of the archive that lacks " + r.cut + " and all entries after it"
	case slices.ContainsFunc(r.Damage, func(d Damage) bool { return d.Object == "archive.json" }):
		hint = "put archive.json back from a copy of the archive: nothing can be restored without it, and the windows that are still good with it"
	case !slices.ContainsFunc(r.Damage, func(d Damage) bool { return !d.Derived }):
		hint = "nothing is lost: what is damaged only repeats the catalog's log, which is read instead. Put the object back from a copy of the archive, or keep it elsewhere and remove it"
	}
	return fault.New(fault.Damage, hint, "the archive is damaged: %s", what)
}
