package segment

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"slices"
)

// smallValue is the size up to which a value is held in memory whatever else its row holds.
const smallValue = 4 << 10

// keepArena is how much of the memory for values across blocks is kept for the next record.
const keepArena = 8 << 20

var noBytes = []byte{}

// release makes the memory and the temporary file of the last record free for the next.
func (r *Reader) release() error {
	r.held, r.saved = 0, [2]int{}
	if r.arena = r.arena[:0]; cap(r.arena) > keepArena {
		r.arena = nil
	}
	if r.spillEnd == 0 {
		return nil
	}
	r.spillEnd = 0
	if err := r.spill.Truncate(0); err != nil {
		return fmt.Errorf("segment: temporary file for large values: %w", err)
	}
	return nil
}

// frame returns the current block's frame of a relation's tuples, or of the messages for nil.
func (r *Reader) frame(rel *readRelation) *readFrame {
	if rel == nil {
		return r.block.messages
	}
	if rel.frameOf != r.block.number+1 {
		return nil
	}
	return rel.frame
}

// filled returns the frame of a stream with at least one byte left, in the next block if need be.
func (r *Reader) filled(rel *readRelation) (*readFrame, error) {
	f := r.frame(rel)
	for f == nil || f.pos == len(f.raw) {
		if err := r.advance(true); err != nil {
			return nil, err
		}
		f = r.frame(rel)
	}
	return f, nil
}

// tuple decodes the columns of a tuple.
func (r *Reader) tuple(dst *[]Value, rel *readRelation) error {
	raw := rawTuple + int64(len(rel.Columns))
	for range rel.Columns {
		f, err := r.filled(rel)
		if err != nil {
			return err
		}
		tag, n := binary.Uvarint(f.raw[f.pos:])
		if n <= 0 || tag > maxValueSize+2 {
			return corrupt(r.part.Name, f.offset, "relation %s: a value's length is malformed", rel)
		}
		f.pos += n
		switch tag {
		case 0:
			*dst = append(*dst, Value{Kind: Null})
		case 1:
			*dst = append(*dst, Value{Kind: Unchanged})
		default:
			raw += rawValue - 1 + int64(tag-2)
			var v Value
			if err := r.value(&v, int64(tag-2), rel); err != nil {
				return err
			}
			*dst = append(*dst, v)
		}
	}
	r.ledger.RawBytes += raw
	return nil
}

// value reads a text value of n bytes: where it lies, or from several blocks, or into the temporary file.
func (r *Reader) value(v *Value, n int64, rel *readRelation) error {
	v.Kind = Text
	if n > r.o.LargeValue || n > smallValue && r.held+n > 4*r.o.LargeValue {
		return r.large(v, n, rel)
	}
	r.held += n
	if n == 0 {
		v.Data = noBytes
		return nil
	}
	if f := r.frame(rel); f != nil && int64(len(f.raw)-f.pos) >= n {
		v.Data = f.raw[f.pos : f.pos+int(n) : f.pos+int(n)]
		f.pos += int(n)
		return nil
	}
	var err error
	v.Data, err = r.gather(rel, n)
	return err
}

// gather copies n bytes of a stream from as many blocks as it takes. Memory grows with what is there.
func (r *Reader) gather(rel *readRelation, n int64) ([]byte, error) {
	r.detach() // so that only this value grows in the arena
	start := len(r.arena)
	err := r.chunks(rel, n, func(b []byte) error {
		r.arena = append(r.arena, b...)
		return nil
	})
	return slices.Clip(r.arena[start:]), err
}

// chunks calls use for n bytes of a stream, piece by piece.
func (r *Reader) chunks(rel *readRelation, n int64, use func([]byte) error) error {
	for n > 0 {
		f, err := r.filled(rel)
		if err != nil {
			return err
		}
		b := f.raw[f.pos:min(int64(len(f.raw)), int64(f.pos)+n)]
		f.pos += len(b)
		n -= int64(len(b))
		if err := use(b); err != nil {
			return err
		}
	}
	return nil
}

// large copies a value to the temporary file.
func (r *Reader) large(v *Value, n int64, rel *readRelation) error {
	if r.spill == nil {
		f, err := os.CreateTemp(r.o.TempDir, "tidemark-value-*")
		if err != nil {
			return fmt.Errorf("segment: temporary file for large values: %w", err)
		}
		r.spill = f
		if err := os.Remove(f.Name()); err != nil {
			return fmt.Errorf("segment: temporary file for large values: %w", err)
		}
	}
	start := r.spillEnd
	err := r.chunks(rel, n, func(b []byte) error {
		if _, err := r.spill.WriteAt(b, r.spillEnd); err != nil {
			return fmt.Errorf("segment: temporary file for large values: %w", err)
		}
		r.spillEnd += int64(len(b))
		return nil
	})
	v.Large = io.NewSectionReader(r.spill, start, n)
	return err
}

// detach copies the values of the open record that lie in the current block, which is about to go.
func (r *Reader) detach() {
	for i, values := range [2][]Value{r.rec.Old, r.rec.New} {
		for j := r.saved[i]; j < len(values); j++ {
			if v := &values[j]; len(v.Data) > 0 {
				r.arena = append(r.arena, v.Data...)
				v.Data = slices.Clip(r.arena[len(r.arena)-len(v.Data):])
			}
		}
		r.saved[i] = len(values)
	}
}
