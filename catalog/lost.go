package catalog

import (
	"context"

	"tidemark/internal/fault"
	"tidemark/objectstore"
)

// afterFirstEntry are where objects lie that nobody writes before the log has its first entry: a history's
// segments and snapshots come after the entry that begins it.
var afterFirstEntry = []string{bookPrefix, "segments/", "snapshots/"}

// HintLost says what to do about an archive whose catalog is lost.
const HintLost = "put catalog/ and archive.json back from a copy of the archive; to begin anew, keep what is left as it is, name another --archive, " +
	"and where the slot is there already run with --new-archive"

// checkLost tells an archive whose catalog is lost, which is damage, from one that holds nothing yet. It is for when no entry
// was found.
func checkLost(ctx context.Context, store objectstore.Store) error {
	left, err := firstUnder(ctx, store, afterFirstEntry...)
	if err != nil || left == "" {
		return err
	}
	// It may have been begun since: then the entry that comes before such objects is there now.
	if seq, _, err := newestRoot(ctx, store); err != nil || seq > 0 {
		return err
	}
	if last, err := (&library{store: store}).lastSeq(ctx, 0); err != nil || last > 0 {
		return err
	}
	return lost(logKey(1), left)
}

func lost(key, left string) error {
	d := damaged(key, "is missing and so is the whole catalog, although there are objects that it named (%s)", left)
	return fault.Wrap(d, fault.Damage, HintLost, "the catalog is lost")
}

// firstUnder returns a key under the first of the prefixes that has any, "" if none has.
func firstUnder(ctx context.Context, store objectstore.Store, prefixes ...string) (string, error) {
	for _, prefix := range prefixes {
		for info, err := range store.List(ctx, prefix, "") {
			return info.Key, err
		}
	}
	return "", nil
}
