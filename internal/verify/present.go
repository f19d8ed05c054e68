package verify

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"slices"
	"strconv"

	"tidemark/catalog"
	"tidemark/internal/basesnapshot"
	"tidemark/objectstore"
	"tidemark/segment"
)

// unreferenced is what is said of an object that nothing names.
func (v *verifier) unreferenced() string {
	if v.report.cut != "" {
		return "no entry before the first that is lost names it"
	}
	return "no entry of the catalog names it: an upload that never got there, or one under way"
}

// present compares a list of the store's objects with what the catalog names. Both come in the order
// of the keys, so that nothing has to be remembered.
func (v *verifier) present(ctx context.Context) error {
	for _, h := range v.view.Histories() {
		prefix := "segments/" + strconv.FormatUint(uint64(h.Number), 10) + "/"
		if err := v.presentSegments(ctx, h, prefix); err != nil {
			return err
		}
	}
	return v.presentSnapshots(ctx)
}

// presentSegments walks over the objects of a history and the list of them side by side.
func (v *verifier) presentSegments(ctx context.Context, h catalog.HistoryPoint, prefix string) error {
	next, stop := iter.Pull2(v.store.List(ctx, prefix, ""))
	defer stop()
	info, err, more := next()
	var failed error
	// skipTo notes what is listed before key, and returns the listed object of that key.
	skipTo := func(key string) (objectstore.Info, bool) {
		for more && err == nil && (key == "" || info.Key < key) {
			v.note(Note{Object: info.Key, Size: info.Size, Note: v.unreferenced()})
			info, err, more = next()
		}
		if !more || err != nil || info.Key != key {
			return objectstore.Info{}, false
		}
		found := info
		info, err, more = next()
		return found, true
	}
	walkErr := v.eachEntry(ctx, h, func(e catalog.Entry) {
		if e.Kind != catalog.KindSegment || failed != nil {
			return
		}
		for _, o := range sorted(e.Segment.Objects) {
			found, ok := skipTo(o.Key)
			if failed = err; failed != nil {
				return
			}
			v.presentObject(e, o, found, ok)
		}
	}, func() {})
	if err := cmp.Or(walkErr, failed); err != nil {
		return err
	}
	skipTo("")
	return err
}

// presentObject judges an object by the list alone; at deeper levels it is read anyway.
func (v *verifier) presentObject(e catalog.Entry, o catalog.Object, found objectstore.Info, ok bool) {
	if v.level != LevelCatalog {
		return
	}
	switch {
	case !ok:
		v.damaged(segmentDamage(e, o.Key, -1, "it is missing"), "")
	case found.Size != o.Size:
		v.damaged(segmentDamage(e, o.Key, min(found.Size, o.Size), sizes(found.Size, o.Size)), "")
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.report.Objects++
}

func sorted(objects []catalog.Object) []catalog.Object {
	return slices.SortedFunc(slices.Values(objects), func(a, b catalog.Object) int { return cmp.Compare(a.Key, b.Key) })
}

// presentSnapshots notes the objects under snapshots/ that no manifest names. What is missing is found
// by the verification of each snapshot.
func (v *verifier) presentSnapshots(ctx context.Context) error {
	named := map[string]bool{}
	unread := map[string]bool{} // prefixes of snapshots whose manifest can't be read
	for _, p := range v.view.Snapshots() {
		if err := v.nameObjects(ctx, p, named, unread); err != nil {
			return err
		}
	}
	for info, err := range v.store.List(ctx, "snapshots/", "") {
		if err != nil {
			return err
		}
		if !named[info.Key] && !unread[folder(info.Key)] {
			v.note(Note{Object: info.Key, Size: info.Size, Note: v.unreferenced()})
		}
	}
	return nil
}

func (v *verifier) nameObjects(ctx context.Context, p catalog.SnapshotPoint, named, unread map[string]bool) error {
	named[p.Snapshot.Manifest.Key] = true
	m, err := basesnapshot.ReadManifest(ctx, v.store, p.Snapshot)
	if errors.Is(err, segment.ErrCorrupt) {
		unread[folder(p.Snapshot.Manifest.Key)] = true
		return nil
	}
	if err != nil {
		return err
	}
	for _, t := range m.Tables {
		for _, c := range t.Chunks {
			for _, o := range c.Objects {
				named[o.Key] = true
			}
		}
	}
	return nil
}

// folder returns the first two elements of a key.
func folder(key string) string {
	slashes := 0
	for i := range len(key) {
		if key[i] == '/' {
			slashes++
		}
		if slashes == 2 {
			return key[:i]
		}
	}
	return key
}

func (v *verifier) note(n Note) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.report.Notes) == maxNotes {
		v.report.NotesLeftOut++
		return
	}
	v.report.Notes = append(v.report.Notes, n)
}
