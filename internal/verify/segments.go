package verify

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"tidemark/catalog"
	"tidemark/objectstore"
	"tidemark/segment"
)

// inMemory is the largest part that is kept in memory to be decoded, in bytes. Larger ones, whose index
// is unusually large, go to a temporary file.
const inMemory = 64 << 20

func segmentDamage(e catalog.Entry, key string, offset int64, problem string) Damage {
	return Damage{Object: key, Offset: offset, Problem: problem, Entry: e.Seq, History: e.History, From: e.From, To: e.To}
}

func sizes(have, want int64) string { return fmt.Sprintf("it has %d bytes instead of %d", have, want) }

// segment verifies one segment at the chosen level.
func (v *verifier) segment(ctx context.Context, e catalog.Entry) error {
	v.mu.Lock()
	v.report.Segments++
	v.mu.Unlock()
	switch v.level {
	case LevelCatalog:
		return nil
	case LevelDecode:
		return v.decodeSegment(ctx, e)
	}
	damaged := false
	for _, o := range e.Segment.Objects {
		ok, err := v.hash(ctx, e, o, io.Discard)
		if err != nil {
			return err
		}
		damaged = damaged || !ok
	}
	if !damaged {
		return nil
	}
	return v.locate(ctx, e)
}

// hash copies an object to w and compares size and SHA-256 with the catalog's. A damaged or missing one
// is reported and false.
func (v *verifier) hash(ctx context.Context, e catalog.Entry, o catalog.Object, w io.Writer) (bool, error) {
	sum := sha256.New()
	n, err := v.read(ctx, o, io.MultiWriter(sum, w))
	v.mu.Lock()
	v.report.Objects++
	v.report.Bytes += n
	v.advance(n)
	v.mu.Unlock()
	switch {
	case errors.Is(err, objectstore.ErrNotFound):
		v.damaged(segmentDamage(e, o.Key, -1, "it is missing"), "")
	case err != nil:
		return false, err
	case n > o.Size:
		info, err := v.store.Stat(ctx, o.Key) // it was read no further
		if err != nil {
			return false, err
		}
		v.damaged(segmentDamage(e, o.Key, o.Size, sizes(info.Size, o.Size)), "")
	case n < o.Size:
		v.damaged(segmentDamage(e, o.Key, n, sizes(n, o.Size)), "")
	case hex.EncodeToString(sum.Sum(nil)) != o.SHA256:
		v.damaged(segmentDamage(e, o.Key, -1, fmt.Sprintf("its SHA-256 is %x, the catalog has %s", sum.Sum(nil), o.SHA256)), "")
	default:
		return true, nil
	}
	return false, nil
}

// read copies at most one byte more than an object is said to have.
func (v *verifier) read(ctx context.Context, o catalog.Object, w io.Writer) (int64, error) {
	body, err := v.store.Get(ctx, o.Key, 0, -1)
	if err != nil {
		return 0, err
	}
	defer body.Close()
	return io.Copy(w, io.LimitReader(body, o.Size+1))
}

// locate decodes a segment with a wrong checksum to find out where it is wrong, and puts that into the
// damage reported already.
func (v *verifier) locate(ctx context.Context, e catalog.Entry) error {
	r := segment.NewReader(v.parts(e, func(o catalog.Object) (segment.PartFile, error) {
		info, err := v.store.Stat(ctx, o.Key)
		return segment.PartFile{R: objectstore.ReaderAt(ctx, v.store, o.Key), Size: info.Size, Name: o.Key}, err
	}), segment.ReaderOptions{Expect: identity(v.view, e)})
	defer r.Close()
	err := drain(ctx, r, nil)
	where, ok := errors.AsType[*segment.CorruptError](err)
	if !ok {
		return ctx.Err() // missing, of another version, or sound in itself: the checksum has said it all
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for i := range v.report.Damage {
		if d := &v.report.Damage[i]; d.Object == where.Name && d.Offset < 0 {
			d.Offset, d.Problem = where.Offset, where.Reason+"; "+d.Problem
		}
	}
	return nil
}

func (v *verifier) parts(e catalog.Entry, open func(catalog.Object) (segment.PartFile, error)) func() (segment.PartFile, error) {
	i := 0
	return func() (segment.PartFile, error) {
		if i == len(e.Segment.Objects) {
			return segment.PartFile{}, io.EOF
		}
		i++
		return open(e.Segment.Objects[i-1])
	}
}

func identity(view *catalog.View, e catalog.Entry) segment.Identity {
	return segment.Identity{Archive: view.Identity().UUID(), History: e.History, Epoch: e.Epoch, From: e.From, To: e.To}
}

// errReported says that a part is damaged and that this was reported.
var errReported = errors.New("reported")

// decodeSegment decodes a segment's every byte and compares what it holds with its entry.
func (v *verifier) decodeSegment(ctx context.Context, e catalog.Entry) error {
	hashed := 0
	var buffer partBuffer
	defer buffer.remove()
	r := segment.NewReader(v.parts(e, func(o catalog.Object) (segment.PartFile, error) {
		hashed++
		w, err := buffer.reset(o.Size)
		if err != nil {
			return segment.PartFile{}, err
		}
		ok, err := v.hash(ctx, e, o, w)
		if err == nil && !ok {
			err = errReported
		}
		return segment.PartFile{R: buffer.reader(), Size: o.Size, Name: o.Key}, err
	}), segment.ReaderOptions{Expect: identity(v.view, e)})
	defer r.Close()
	counts := &Report{}
	err := drain(ctx, r, counts)
	v.mu.Lock()
	v.report.Transactions += counts.Transactions
	v.report.Rows += counts.Rows
	v.mu.Unlock()
	if err == nil {
		v.compare(e, r.Summary())
		return nil
	}
	return v.undecodable(ctx, e, err, hashed)
}

// undecodable reports why a segment does not decode, and still hashes the parts that were not reached.
func (v *verifier) undecodable(ctx context.Context, e catalog.Entry, err error, hashed int) error {
	where, corrupt := errors.AsType[*segment.CorruptError](err)
	switch {
	case corrupt:
		v.damaged(segmentDamage(e, where.Name, where.Offset, where.Reason), "")
	case !errors.Is(err, errReported):
		return err
	}
	for _, o := range e.Segment.Objects[hashed:] {
		if _, err := v.hash(ctx, e, o, io.Discard); err != nil {
			return err
		}
	}
	if corrupt {
		return nil
	}
	return v.locate(ctx, e)
}

// drain reads a segment to its end, counting transactions and row operations if counts is given.
func drain(ctx context.Context, r *segment.Reader, counts *Report) error {
	for ctx.Err() == nil {
		rec, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if counts == nil {
			continue
		}
		switch rec.Op {
		case segment.OpCommit:
			counts.Transactions++
		case segment.OpInsert, segment.OpUpdate, segment.OpDelete:
			counts.Rows++
		}
	}
	return ctx.Err()
}

// partBuffer holds one part: in memory, or in a temporary file if it is large.
type partBuffer struct {
	memory bytes.Buffer
	file   *os.File
	onDisk bool
}

func (b *partBuffer) reset(size int64) (io.Writer, error) {
	b.memory.Reset()
	if b.onDisk = size > inMemory; !b.onDisk {
		return &b.memory, nil
	}
	b.remove()
	file, err := os.CreateTemp("", "tidemark-verify-*")
	b.file = file
	return file, err
}

func (b *partBuffer) reader() io.ReaderAt {
	if b.onDisk {
		return b.file
	}
	return bytes.NewReader(b.memory.Bytes())
}

func (b *partBuffer) remove() {
	if b.file != nil {
		_ = b.file.Close()
		_ = os.Remove(b.file.Name())
		b.file = nil
	}
}
