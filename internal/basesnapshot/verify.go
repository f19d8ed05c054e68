package basesnapshot

import (
	"context"
	"errors"
	"fmt"
	"io"

	"tidemark/catalog"
	"tidemark/objectstore"
	"tidemark/segment"
)

// Level says how deep Verify looks.
type Level int

// The levels: each includes those before it.
const (
	LevelPresent  Level = iota // every object is there with its size; the manifest is read
	LevelChecksum              // every byte is read and hashed
	LevelDecode                // every block is decoded, rows and bytes are counted
)

// Verified counts what Verify looked at.
type Verified struct {
	Objects int64
	Bytes   int64 // read from the store
	Rows    int64 // decoded
}

// Verify checks every object of a snapshot. Each damaged or missing object is reported, and checking
// goes on; the error is for what stops it (an unreachable store, a cancelled context, a newer format).
func Verify(ctx context.Context, store objectstore.Store, s catalog.Snapshot, level Level, report func(*segment.CorruptError)) (Verified, error) {
	v := verifier{store: store, level: level, report: report}
	m, err := ReadManifest(ctx, store, s)
	v.seen.Objects++
	v.seen.Bytes += s.Manifest.Size
	if err != nil {
		return v.seen, v.damaged(err)
	}
	for i := range m.Tables {
		if err := v.table(ctx, s, &m.Tables[i]); err != nil {
			return v.seen, err
		}
	}
	return v.seen, nil
}

type verifier struct {
	store  objectstore.Store
	level  Level
	report func(*segment.CorruptError)
	seen   Verified
}

// damaged reports err if it is damage, and otherwise returns it.
func (v *verifier) damaged(err error) error {
	c, ok := errors.AsType[*segment.CorruptError](err)
	if !ok {
		return err
	}
	v.report(c)
	return nil
}

func (v *verifier) table(ctx context.Context, s catalog.Snapshot, t *Table) error {
	var rows, raw int64
	for _, c := range t.Chunks {
		if err := v.chunk(ctx, c); err != nil {
			return err
		}
		rows += c.Rows
		raw += c.RawBytes
	}
	if rows != t.Rows || raw != t.RawBytes {
		return v.damaged(damage(s.Manifest.Key, 0, fmt.Sprintf("the chunks of table %s hold %d rows in %d bytes, not %d in %d", t, rows, raw, t.Rows, t.RawBytes)))
	}
	return nil
}

func (v *verifier) chunk(ctx context.Context, c Chunk) error {
	v.seen.Objects += int64(len(c.Objects))
	if v.level >= LevelDecode {
		return v.decode(ctx, c)
	}
	for _, o := range c.Objects {
		if err := v.object(ctx, o); err != nil {
			return err
		}
	}
	return nil
}

func (v *verifier) object(ctx context.Context, o catalog.Object) error {
	if v.level >= LevelChecksum {
		_, err := fetchObject(ctx, v.store, o, maxObject)
		v.seen.Bytes += o.Size
		return v.damaged(err)
	}
	info, err := v.store.Stat(ctx, o.Key)
	switch {
	case errors.Is(err, objectstore.ErrNotFound):
		return v.damaged(damage(o.Key, 0, "it is missing"))
	case err != nil:
		return err
	case info.Size != o.Size:
		return v.damaged(damage(o.Key, 0, fmt.Sprintf("it has %d bytes instead of %d", info.Size, o.Size)))
	}
	return nil
}

// decode reads a chunk to its end. Where one of several objects is damaged, the others are still hashed.
func (v *verifier) decode(ctx context.Context, c Chunk) error {
	err := decodeChunk(ctx, v.store, c)
	v.seen.Bytes += c.StoredBytes()
	if err == nil {
		v.seen.Rows += c.Rows
		return nil
	}
	bad, ok := errors.AsType[*segment.CorruptError](err)
	if !ok {
		return err
	}
	v.report(bad)
	for _, o := range c.Objects {
		if o.Key == bad.Name {
			continue
		}
		if _, err := fetchObject(ctx, v.store, o, maxObject); v.damaged(err) != nil {
			return err
		}
	}
	return nil
}

func decodeChunk(ctx context.Context, store objectstore.Store, c Chunk) error {
	r, err := OpenChunk(ctx, store, c)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(io.Discard, r)
	return err
}
