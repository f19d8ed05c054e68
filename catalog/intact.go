package catalog

import (
	"context"
	"errors"

	"tidemark/objectstore"
)

// OpenIntact reads as much of a damaged catalog as is whole, to tell what can still be restored: what the newest sound root
// says, and the entries from there to the first that is missing or damaged and that no other object repeats. cut is the key of that one, "" if there is
// none. Without archive.json, the log tells which archive it is. The error is a fault with code fault.Damage if nothing can be
// read.
func OpenIntact(ctx context.Context, store objectstore.Store) (v *View, cut string, err error) {
	id, err := readIdentity(ctx, store)
	if _, ok := errors.AsType[*Damage](err); ok {
		id, err = identityByLog(ctx, store)
	}
	if err != nil {
		return nil, "", asFault(err)
	}
	l := newLog(store, id, nil)
	if _, err := l.loadRoot(ctx); err != nil {
		return nil, "", asFault(err)
	}
	if cut, err = l.catchUpIntact(ctx); err != nil {
		return nil, "", err
	}
	return l.View(), cut, nil
}

// catchUpIntact adds one entry after the other until one can't be read. It returns that one's key, "" at the log's end.
func (l *Log) catchUpIntact(ctx context.Context) (cut string, err error) {
	for err == nil {
		var lines [][]byte
		if lines, err = l.lib.fetchLines(ctx, l.state.Seq, l.state.Seq+1); err == nil {
			err = l.advance(lines)
		}
	}
	if _, ok := errors.AsType[*Damage](err); !ok {
		return "", err
	}
	last, err := l.lib.lastSeq(ctx, l.state.Seq)
	if _, ok := errors.AsType[*Damage](err); !ok && err != nil {
		return "", err
	}
	if err != nil || last > l.state.Seq {
		return logKey(l.state.Seq + 1), nil
	}
	return "", nil
}

// identityByLog returns what the log knows of archive.json.
func identityByLog(ctx context.Context, store objectstore.Store) (Identity, error) {
	id := ""
	first, err := firstUnder(ctx, store, logPrefix)
	if err == nil && first != "" {
		id, err = archiveOf(ctx, store, first)
	}
	if err == nil && id == "" {
		err = damaged(identityKey, "can't be read, and the log does not tell which archive it is")
	}
	return Identity{Format: FormatVersion, ID: id}, err
}

// archiveOf returns the id of the archive that a log object belongs to, "" if it can't be read.
func archiveOf(ctx context.Context, store objectstore.Store, key string) (string, error) {
	data, err := readAll(ctx, store, key)
	if errors.Is(err, objectstore.ErrNotFound) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	line, _, err := decodeLogObject(key, data)
	if err != nil {
		return "", nil
	}
	e, err := decodeEntry(line)
	if err != nil {
		return "", nil
	}
	return e.Archive, nil
}
