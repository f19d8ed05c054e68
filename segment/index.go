package segment

import (
	"errors"
	"io"
)

// Index is the summary of a segment, by transaction and by block.
type Index struct {
	Identity
	Summary      Summary    // without StoredBytes
	Relations    []Relation // all versions, in the order of their definitions
	Transactions []Transaction
	Blocks       []Block
	Marks        []Mark
	Prefixes     []PrefixCount // of logical messages
	SequencesLSN LSN           // position of the sample of sequences; zero when there is none
	Sequences    []Sequence
}

// Transaction is a committed transaction.
type Transaction struct {
	XID        uint32
	CommitLSN  LSN
	EndLSN     LSN
	CommitTime Timestamp
	Foreign    bool // has a replication origin, and so a foreign commit time
	Messages   int  // transactional logical messages
	DDL        int  // of them
	Changes    []Change
	Block      int // where it begins: index into Index.Blocks
}

// Block says where a block lies and what it holds.
type Block struct {
	Part        int
	Offset      int64 // in the part, bytes
	Length      int64
	Inside      bool  // it begins inside a transaction
	Continues   bool  // it begins inside an operation
	GoesOn      bool  // its last operation goes on in the next block
	Transaction int64 // transactions that began before it
	Frames      []Frame
}

// Streams of a Frame other than relation versions.
const (
	ControlFrame = -2
	MessageFrame = -1
)

// Frame is a frame of a block.
type Frame struct {
	Relation int   // index into Index.Relations, or ControlFrame, or MessageFrame
	Offset   int64 // in the part, bytes
	Stored   int64 // bytes
	Raw      int64
}

// tailSize is how much of the last part ReadIndex reads at first.
const tailSize = 64 << 10

// ReadIndex reads the index from the last part of a segment with one ranged read, or two if the index
// is large. Memory grows with the index, a few times its size when decompressed. All damage found is a
// *CorruptError, a newer format a *VersionError.
func ReadIndex(last PartFile) (*Index, error) { return ReadIndexFrom(last, 0) }

// ReadIndexFrom is ReadIndex, but keeps only the transactions that committed at or after an LSN: everything is checked
// all the same, and decoding takes a fraction of the time and memory.
func ReadIndexFrom(last PartFile, from LSN) (*Index, error) {
	tail := &tailReader{r: last.R, size: last.Size}
	p := PartFile{R: tail, Size: last.Size, Name: last.Name}
	f, err := p.readFooter()
	if err != nil {
		return nil, err
	}
	if !f.last {
		return nil, corrupt(p.Name, p.Size-footerSize, "not the last part of its segment: it has no index")
	}
	tail.want = f.indexOffset
	d := newIndexDecoder(p.Name, f)
	d.from = from
	if err := scanIndex(p, f, d.chunk); err != nil {
		return nil, err
	}
	if err := d.finish(); err != nil {
		return nil, err
	}
	return d.Index, nil
}

// tailReader holds the end of a part in memory, reading more of it at once when an index needs it.
type tailReader struct {
	r    io.ReaderAt
	size int64
	buf  []byte // the last bytes of the part
	want int64  // the offset from which bytes will be wanted
}

func (t *tailReader) ReadAt(b []byte, off int64) (int, error) {
	if off < t.size-int64(len(t.buf)) {
		from := max(0, t.size-tailSize)
		if t.want > 0 {
			from = min(from, t.want)
		}
		from = min(from, off)
		buf := make([]byte, t.size-from)
		if n, err := t.r.ReadAt(buf, from); n < len(buf) {
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return 0, err
		}
		t.buf = buf
	}
	return copy(b, t.buf[off-(t.size-int64(len(t.buf))):]), nil
}
