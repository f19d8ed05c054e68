package basesnapshot

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"tidemark/catalog"
	"tidemark/internal/fault"
	"tidemark/objectstore"
	"tidemark/segment"
)

const hintDamage = "restorer verify says what else is damaged and which windows are still good"

// OpenChunk reads a chunk's rows as COPY text. An object's first byte is given out only after the whole
// object's SHA-256 was found to be the manifest's, and a block's only after its checksum was. A damaged
// or missing object is an error for which errors.Is(err, segment.ErrCorrupt) holds and fault.CodeOf gives
// Damage. io.EOF comes only once the rows add up to the chunk's. It holds one object (at most 8 MiB) and
// one block. ctx is that of all reads.
func OpenChunk(ctx context.Context, store objectstore.Store, chunk Chunk) (io.ReadCloser, error) {
	if len(chunk.Objects) == 0 {
		return nil, fault.New(fault.Damage, hintDamage, "a chunk of a base snapshot has no object")
	}
	r := &chunkReader{fetch: func(o catalog.Object) ([]byte, error) { return fetchObject(ctx, store, o, maxObject) }, chunk: chunk}
	if err := r.open(); err != nil {
		return nil, err
	}
	return r, nil
}

type chunkReader struct {
	fetch  func(catalog.Object) ([]byte, error)
	chunk  Chunk
	next   int // index of the object after the open one
	object *chunkObject
	buf    []byte // memory of a block
	block  []byte // what is left of it
	rows   int64
	raw    int64
	err    error
}

func (r *chunkReader) open() error {
	o := r.chunk.Objects[r.next]
	data, err := r.fetch(o)
	if err != nil {
		return err
	}
	object, err := openChunkObject(o.Key, data)
	if err != nil {
		return err
	}
	h := object.Header
	last := r.next == len(r.chunk.Objects)-1
	switch {
	case int(h.Part) != r.next:
		return damage(o.Key, 48, "it is another part of its chunk than the manifest says")
	case h.EndsInRow == last || h.BeginsInRow == (r.next == 0):
		return damage(o.Key, 10, "its rows don't continue as the manifest says")
	case r.object != nil && (h.Archive != r.object.Header.Archive || h.Snapshot != r.object.Header.Snapshot ||
		h.Table != r.object.Header.Table || h.Chunk != r.object.Header.Chunk):
		return damage(o.Key, 16, "it belongs to another chunk")
	}
	r.object = object
	r.next++
	return nil
}

// Read implements io.Reader.
func (r *chunkReader) Read(p []byte) (int, error) {
	for len(r.block) == 0 {
		if r.err == nil {
			r.err = r.advance()
		}
		if r.err != nil {
			return 0, r.err
		}
	}
	n := copy(p, r.block)
	r.block = r.block[n:]
	return n, nil
}

// advance reads the next block, or opens the next object; io.EOF after the last.
func (r *chunkReader) advance() error {
	block, err := r.object.next(r.buf)
	if err != nil {
		return err
	}
	if block != nil {
		r.buf, r.block = block, block
		return nil
	}
	r.rows += int64(r.object.rows)
	r.raw += int64(r.object.raw)
	if r.next < len(r.chunk.Objects) {
		return r.open()
	}
	if r.rows != r.chunk.Rows || r.raw != r.chunk.RawBytes {
		return damage(r.object.name, 0, fmt.Sprintf("the chunk holds %d rows in %d bytes, the manifest says %d in %d",
			r.rows, r.raw, r.chunk.Rows, r.chunk.RawBytes))
	}
	return io.EOF
}

// Close ends reading; it returns no error.
func (r *chunkReader) Close() error {
	r.err, r.block, r.object = errClosed, nil, nil
	return nil
}

// fetchObject reads a whole object and checks size and SHA-256. Missing counts as damage.
func fetchObject(ctx context.Context, store objectstore.Store, o catalog.Object, limit int64) ([]byte, error) {
	if o.Size <= 0 || o.Size > limit {
		return nil, fault.Wrap(damage(o.Key, 0, "its size in the catalog or manifest is impossible"), fault.Damage, hintDamage, "")
	}
	data, err := readObject(ctx, store, o)
	if errors.Is(err, objectstore.ErrNotFound) {
		return nil, fault.Wrap(fmt.Errorf("%w (%w)", damage(o.Key, 0, "it is missing"), err), fault.Damage, hintDamage, "base snapshot")
	}
	if errors.Is(err, segment.ErrCorrupt) {
		return nil, fault.Wrap(err, fault.Damage, hintDamage, "base snapshot")
	}
	return data, err
}

func readObject(ctx context.Context, store objectstore.Store, o catalog.Object) ([]byte, error) {
	body, err := store.Get(ctx, o.Key, 0, -1)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	data := make([]byte, o.Size)
	n, err := io.ReadFull(body, data)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, damage(o.Key, n, "it ends too early")
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", o.Key, err)
	}
	var one [1]byte
	switch n, err := io.ReadFull(body, one[:]); {
	case n > 0:
		return nil, damage(o.Key, len(data), "it is longer than it should be")
	case !errors.Is(err, io.EOF):
		return nil, fmt.Errorf("reading %s: %w", o.Key, err)
	}
	if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != o.SHA256 {
		return nil, damage(o.Key, 0, "its SHA-256 is not the one recorded")
	}
	return data, nil
}
