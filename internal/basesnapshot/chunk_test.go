package basesnapshot

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/internal/fault"
	"tidemark/objectstore"
	"tidemark/segment"
)

// newStore gives an empty store in memory.
func newStore(t testing.TB) objectstore.Store {
	store, err := objectstore.Open(context.Background(), "mem://"+randomID())
	require.NoError(t, err)
	return store
}

// writeChunks writes text in random pieces.
func writeChunks(t *testing.T, store objectstore.Store, text []byte, random *rand.Rand) []Chunk {
	ctx := context.Background()
	next := uint32(0)
	w := &chunkWriter{
		header: ChunkHeader{Archive: [16]byte{1, 2}, Snapshot: [8]byte{3}, Table: 7}, prefix: "s/",
		number: func() uint32 { next++; return next - 1 },
		buffer: func(context.Context) ([]byte, error) { return nil, nil },
		upload: func(ctx context.Context, o object) error {
			require.LessOrEqual(t, len(o.data), fullSize)
			return store.Put(ctx, o.key, o.data)
		},
	}
	for len(text) > 0 {
		n := min(len(text), 1+random.IntN(200_000))
		require.NoError(t, w.write(ctx, text[:n]))
		text = text[n:]
	}
	chunks, err := w.close(ctx)
	require.NoError(t, err)
	return chunks
}

func readChunk(store objectstore.Store, c Chunk) ([]byte, error) {
	r, err := OpenChunk(context.Background(), store, c)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// randomRow gives a row that doesn't compress.
func randomRow(random *rand.Rand, size int) []byte {
	row := make([]byte, size, size+1)
	for i := range row {
		row[i] = byte(' ' + random.IntN(90))
	}
	return append(row, '\n')
}

func TestChunksGiveBackTheirRows(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	cases := map[string][]int{
		"nothing": nil, "one empty row": {0}, "a row of a block": {maxBlockRaw - 1}, "a row of a block and a bit": {maxBlockRaw},
		"rows beside a row of three objects": {10, 20, 26 << 20, 5, 7},
		"two large rows":                     {9 << 20, 9 << 20},
	}
	var mixed []int
	for range 3000 {
		mixed = append(mixed, int(random.ExpFloat64()*8000))
	}
	cases["many rows"] = mixed
	for name, sizes := range cases {
		t.Run(name, func(t *testing.T) {
			store := newStore(t)
			var text []byte
			for _, size := range sizes {
				text = append(text, randomRow(random, size)...)
			}
			chunks := writeChunks(t, store, text, random)
			var got []byte
			var rows, raw int64
			for _, c := range chunks {
				b, err := readChunk(store, c)
				require.NoError(t, err)
				require.True(t, bytes.HasSuffix(b, []byte{'\n'}), "a chunk is whole rows")
				got = append(got, b...)
				rows += c.Rows
				raw += c.RawBytes
			}
			require.True(t, bytes.Equal(text, got))
			require.EqualValues(t, len(sizes), rows)
			require.EqualValues(t, len(text), raw)
		})
	}
}

func TestRowsBelowTheSlackNeverSpanObjects(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var text []byte
	for range 40 {
		text = append(text, randomRow(random, 500_000)...)
	}
	for _, c := range writeChunks(t, newStore(t), text, random) {
		require.Len(t, c.Objects, 1)
	}
}

// Blocks are small, since zstd takes those faster, but hold enough rows to find what they have in common.
func TestBlocksAreSmallOrHoldManyRows(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for size, want := range map[int][2]int{ // raw bytes of a block, at least and at most
		99:      {blockSize - 100, blockSize},
		3999:    {blockRows*4000 - 4000, blockRows * 4000},
		99_999:  {maxBlockRaw - 100_000, maxBlockRaw},
		600_000: {1, maxBlockRaw},
	} {
		store := newStore(t)
		row := randomRow(random, size)
		chunks := writeChunks(t, store, bytes.Repeat(row, 6<<20/len(row)), random)
		for _, o := range chunks[0].Objects {
			b, err := objectstore.GetAll(context.Background(), store, o.Key)
			require.NoError(t, err)
			var blocks []int
			for at := chunkHeaderSize; binary.LittleEndian.Uint32(b[at:]) != endOfBlocks; at += blockHeaderSize + int(binary.LittleEndian.Uint32(b[at:])) {
				blocks = append(blocks, int(binary.LittleEndian.Uint32(b[at+4:])))
			}
			// The first ones know no rows yet, the last is what is left.
			require.Greater(t, len(blocks), 4)
			for _, raw := range blocks[2 : len(blocks)-1] {
				require.GreaterOrEqual(t, raw, want[0], "rows of %d bytes", size)
				require.LessOrEqual(t, raw, want[1], "rows of %d bytes", size)
			}
		}
	}
}

func TestUnfinishedRowIsRefused(t *testing.T) {
	w := &chunkWriter{buffer: func(context.Context) ([]byte, error) { return nil, nil }, number: func() uint32 { return 0 },
		upload: func(context.Context, object) error { return nil }}
	require.NoError(t, w.write(context.Background(), []byte("a\tb\nc")))
	_, err := w.close(context.Background())
	require.Error(t, err)
}

// flipStore gives one object with a bit turned.
type flipStore struct {
	objectstore.Store
	key string
	at  int
	bit int
}

func (s *flipStore) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	body, err := s.Store.Get(ctx, key, offset, length)
	if err != nil || key != s.key {
		return body, err
	}
	defer body.Close()
	data, err := io.ReadAll(body)
	if err != nil {
		return nil, err
	}
	data[s.at] ^= 1 << s.bit
	return io.NopCloser(bytes.NewReader(data)), nil
}

func TestEveryFlippedByteOfAChunkIsNoticed(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	store := newStore(t)
	var text []byte
	for range 40 {
		text = append(text, randomRow(random, 30)...)
	}
	chunk := writeChunks(t, store, text, random)[0]
	data := getAll(t, store, chunk.Objects[0].Key)
	for at := range data {
		bit := random.IntN(8)
		_, err := readChunk(&flipStore{Store: store, key: chunk.Objects[0].Key, at: at, bit: bit}, chunk)
		require.ErrorIs(t, err, segment.ErrCorrupt)
		require.Equal(t, fault.Damage, fault.CodeOf(err))
		require.Contains(t, err.Error(), chunk.Objects[0].Key)
		// The object alone, without the manifest's hash, notices too.
		flipped := bytes.Clone(data)
		flipped[at] ^= 1 << bit
		require.Error(t, decodeAll("object", flipped), "byte %d", at)
	}
	require.NoError(t, decodeAll("object", data))
	for size := range data {
		require.Error(t, decodeAll("object", data[:size]))
	}
	require.Error(t, decodeAll("object", append(bytes.Clone(data), 0)))
}

func decodeAll(name string, data []byte) error {
	o, err := openChunkObject(name, data)
	if err != nil {
		return err
	}
	for {
		block, err := o.next(nil)
		if err != nil || block == nil {
			return err
		}
	}
}

func getAll(t *testing.T, store objectstore.Store, key string) []byte {
	body, err := store.Get(context.Background(), key, 0, -1)
	require.NoError(t, err)
	defer body.Close()
	data, err := io.ReadAll(body)
	require.NoError(t, err)
	return data
}

func TestPartsOfAChunkCantBeMixedUp(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 8))
	store := newStore(t)
	chunks := writeChunks(t, store, append(randomRow(random, 10<<20), randomRow(random, 10<<20)...), random)
	require.Len(t, chunks, 2)
	c := chunks[0]
	require.Len(t, c.Objects, 3)
	for name, change := range map[string]func(*Chunk){
		"swapped":       func(c *Chunk) { c.Objects[0], c.Objects[1] = c.Objects[1], c.Objects[0] },
		"first missing": func(c *Chunk) { c.Objects = c.Objects[1:] },
		"last missing":  func(c *Chunk) { c.Objects = c.Objects[:2] },
		"another's":     func(c *Chunk) { c.Objects[1] = chunks[1].Objects[1] },
		"none":          func(c *Chunk) { c.Objects = nil },
		"other count":   func(c *Chunk) { c.Rows++ },
	} {
		t.Run(name, func(t *testing.T) {
			bad := c
			bad.Objects = append(bad.Objects[:0:0], c.Objects...)
			change(&bad)
			_, err := readChunk(store, bad)
			require.Equal(t, fault.Damage, fault.CodeOf(err), "%v", err)
		})
	}
	require.NoError(t, store.Delete(context.Background(), c.Objects[1].Key))
	_, err := readChunk(store, c)
	require.Equal(t, fault.Damage, fault.CodeOf(err))
	require.ErrorIs(t, err, segment.ErrCorrupt)
}

func TestNewerFormatsAreRefusedByName(t *testing.T) {
	data := ChunkHeader{}.append(nil)
	data[8] = 9
	_, err := openChunkObject("snapshots/x", data)
	require.ErrorContains(t, err, "snapshots/x has format version 9")
	require.NotErrorIs(t, err, segment.ErrCorrupt)
	m, err := encodeManifest(&Manifest{})
	require.NoError(t, err)
	m[8] = 2
	_, err = DecodeManifest("m", m)
	require.ErrorContains(t, err, "m has format version 2")
}

func TestEveryFlippedByteOfAManifestIsNoticed(t *testing.T) {
	data, err := encodeManifest(&Manifest{ID: "0123456789abcdef", Tables: []Table{{Name: "a", Chunks: []Chunk{{Rows: 1}}}}})
	require.NoError(t, err)
	m, err := DecodeManifest("m", data)
	require.NoError(t, err)
	require.Equal(t, "0123456789abcdef", m.ID)
	for at := range data {
		flipped := bytes.Clone(data)
		flipped[at] ^= 1 << (at % 8)
		_, err := DecodeManifest("m", flipped)
		require.Error(t, err, "byte %d", at)
	}
}

func FuzzChunkObject(f *testing.F) {
	object := ChunkHeader{Table: 1}.append(nil)
	object = appendBlock(object, []byte("a\tb\n"), 1)
	f.Add(appendTrailer(object, 1, 4, 1))
	f.Add([]byte(chunkMagic))
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := decodeAll("fuzz", data); err != nil && !errors.Is(err, segment.ErrCorrupt) && fault.CodeOf(err) != fault.Failed {
			t.Fatal(err)
		}
	})
}

func FuzzManifest(f *testing.F) {
	data, err := encodeManifest(&Manifest{ID: "0123456789abcdef", Schema: []SchemaItem{{Kind: "TABLE"}}})
	require.NoError(f, err)
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := DecodeManifest("fuzz", data); err != nil && !errors.Is(err, segment.ErrCorrupt) && fault.CodeOf(err) != fault.Failed {
			t.Fatal(err)
		}
	})
}
