package basesnapshot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"tidemark/catalog"
)

// Objects are written smaller than they may be: two are in memory for each session that copies.
const (
	fullSize = maxObject / 2 // stored size at which an object ends, inside a row if need be
	// turnSize is the stored size at which a chunk ends with the next row, so that rows of less than the rest
	// of an object never span objects.
	turnSize = fullSize - 1<<20

	// A block ends at so many raw bytes, or at so many rows if those are more. zstd's fastest level takes two thirds of the
	// time for 64 KiB of small rows that it takes for them in blocks of 512 KiB, to the same size within a hundredth: up
	// to 128 KiB it needs no history. But what rows have in common it finds only within a block.
	blockSize = 64 << 10
	blockRows = 64
)

// object is a finished object on its way to the store.
type object struct {
	key  string
	data []byte
	raw  int64 // bytes of COPY text
	rows int64
}

// chunkWriter cuts the COPY text of one range into chunks and objects. It holds at most one object and
// one block, whatever the size of a row.
type chunkWriter struct {
	header ChunkHeader
	prefix string        // of the keys, with the table
	number func() uint32 // gives the next chunk's number
	buffer func(context.Context) ([]byte, error)
	// upload takes over data and may return before it is stored.
	upload func(context.Context, object) error

	block  []byte // raw bytes of the block being filled
	fill   int    // raw bytes at which it ends if that is more than blockSize
	object []byte // nil between objects
	blocks int
	raw    int64 // of the object
	rows   int64 // of the object
	inRow  bool  // the last block ended inside a row

	chunk  Chunk
	chunks []Chunk
}

// write takes COPY text, in pieces of any size. It doesn't keep p.
func (w *chunkWriter) write(ctx context.Context, p []byte) error {
	for len(p) > 0 {
		size := max(blockSize, w.fill)
		n := min(len(p), max(0, size-len(w.block)))
		w.block = append(w.block, p[:n]...)
		p = p[n:]
		if len(w.block) >= size {
			if err := w.flush(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// flush turns the block's whole rows, or a piece of a row that is as large as a block may be, into a block of the object.
func (w *chunkWriter) flush(ctx context.Context) error {
	end := bytes.LastIndexByte(w.block, '\n') + 1
	inRow := end == 0
	if inRow && len(w.block) < maxBlockRaw {
		w.fill = maxBlockRaw // which may hold the row's end
		return nil
	}
	if inRow {
		end = len(w.block)
	}
	if err := w.appendBlock(ctx, w.block[:end], inRow); err != nil {
		return err
	}
	w.block = w.block[:copy(w.block, w.block[end:])]
	return nil
}

func (w *chunkWriter) appendBlock(ctx context.Context, raw []byte, inRow bool) error {
	if w.object == nil {
		if err := w.begin(ctx); err != nil {
			return err
		}
	}
	rows := bytes.Count(raw, []byte{'\n'})
	if rows > 0 {
		w.fill = min(blockRows*len(raw)/rows, maxBlockRaw)
	}
	before := len(w.object)
	w.object = appendBlock(w.object, raw, rows)
	if len(w.object) > fullSize-chunkTrailerSize {
		// One block too many: the object ends before it, and the block begins the next one.
		spill := bytes.Clone(w.object[before:])
		w.object = w.object[:before]
		if err := w.finish(ctx, w.inRow); err != nil {
			return err
		}
		if err := w.begin(ctx); err != nil {
			return err
		}
		w.object = append(w.object, spill...)
	}
	w.blocks++
	w.raw += int64(len(raw))
	w.rows += int64(rows)
	w.inRow = inRow
	if !inRow && (len(w.object) >= turnSize || len(w.chunk.Objects) > 0) {
		return w.finish(ctx, false)
	}
	return nil
}

func (w *chunkWriter) begin(ctx context.Context) error {
	object, err := w.buffer(ctx)
	if err != nil {
		return err
	}
	if len(w.chunk.Objects) == 0 {
		w.header.Chunk = w.number()
	}
	w.header.Part = uint32(len(w.chunk.Objects))
	w.header.BeginsInRow = w.inRow
	w.header.EndsInRow = false
	w.object = w.header.append(object[:0])
	w.blocks, w.raw, w.rows = 0, 0, 0
	return nil
}

// finish ends the object and, unless it ends inside a row, the chunk.
func (w *chunkWriter) finish(ctx context.Context, inRow bool) error {
	if inRow {
		w.header.EndsInRow = true
		w.header.append(w.object[:0])
	}
	w.object = appendTrailer(w.object, w.blocks, w.raw, w.rows)
	key := fmt.Sprintf("%s%06d.%04d", w.prefix, w.header.Chunk, w.header.Part)
	sum := sha256.Sum256(w.object)
	w.chunk.Objects = append(w.chunk.Objects, catalog.Object{Key: key, Size: int64(len(w.object)), SHA256: hex.EncodeToString(sum[:])})
	w.chunk.Rows += w.rows
	w.chunk.RawBytes += w.raw
	o := object{key: key, data: w.object, raw: w.raw, rows: w.rows}
	w.object = nil
	if !inRow {
		w.chunks = append(w.chunks, w.chunk)
		w.chunk = Chunk{}
	}
	return w.upload(ctx, o)
}

// close ends the last object. The chunks are complete only once its error is nil and all uploads are done.
func (w *chunkWriter) close(ctx context.Context) ([]Chunk, error) {
	if len(w.block) > 0 {
		if w.block[len(w.block)-1] != '\n' {
			return nil, fmt.Errorf("the server's rows ended within a row")
		}
		if err := w.appendBlock(ctx, w.block, false); err != nil {
			return nil, err
		}
		w.block = w.block[:0]
	}
	if w.object != nil {
		if err := w.finish(ctx, w.inRow); err != nil {
			return nil, err
		}
	}
	if w.inRow || len(w.chunk.Objects) > 0 {
		return nil, fmt.Errorf("the server's rows ended within a row")
	}
	return w.chunks, nil
}
