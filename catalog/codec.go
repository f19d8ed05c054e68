package catalog

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"

	"tidemark/objectstore"
)

// Limits that keep a damaged or hostile object from taking memory.
const (
	maxLine     = 16 << 20 // bytes of a line
	maxCarry    = 4 << 20  // bytes of lines that a log object carries
	maxRaw      = 1 << 30  // bytes of a book or root, decompressed
	maxRatio    = 4096     // decompressed over compressed size
	minRawLimit = 64 << 10
)

// The magics of sealed objects; a version of two bytes follows.
const (
	magicLog  = "TMLOGE"
	magicBook = "TMBOOK"
	magicRoot = "TMROOT"
	magicSize = 8
)

// marshal is JSON without HTML escaping and without the trailing newline.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// unmarshalStrict decodes canonical JSON: no unknown field, and the same bytes when encoded again.
func unmarshalStrict(data []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	again, err := marshal(v)
	if err != nil {
		return err
	}
	if !bytes.Equal(again, data) {
		return errors.New("it is not in canonical form")
	}
	return nil
}

func hashOf(line []byte) string {
	sum := sha256.Sum256(line)
	return hex.EncodeToString(sum[:])
}

func magicOf(name string) []byte {
	return binary.BigEndian.AppendUint16([]byte(name), FormatVersion)
}

// appendSum ends an object with the SHA-256 of everything before.
func appendSum(data []byte) []byte {
	sum := sha256.Sum256(data)
	return append(data, sum[:]...)
}

// cutSum checks the SHA-256 at the end of an object and returns what it covers.
func cutSum(key string, data []byte) ([]byte, error) {
	n := len(data) - sha256.Size
	if n < magicSize {
		return nil, damaged(key, "is only %d bytes long", len(data))
	}
	if sum := sha256.Sum256(data[:n]); !bytes.Equal(sum[:], data[n:]) {
		return nil, damaged(key, "its checksum does not match")
	}
	return data[:n], nil
}

// checkMagic compares eight bytes with a magic and refuses newer versions by name.
func checkMagic(key string, got []byte, name string) error {
	if string(got[:len(name)]) != name {
		return damaged(key, "it is not a %s object", name)
	}
	if v := binary.BigEndian.Uint16(got[len(name):]); v > FormatVersion {
		return versionFault(key, int(v))
	} else if v != FormatVersion {
		return damaged(key, "format version %d does not exist", v)
	}
	return nil
}

// seal makes a book or root of its text.
func seal(name string, text []byte) ([]byte, error) {
	if len(text) > maxRaw {
		return nil, fmt.Errorf("a %s object of %d bytes is too long", name, len(text))
	}
	data := magicOf(name)
	data, err := deflate(data, text)
	return appendSum(data), err
}

// deflate appends one frame that inflate will take.
func deflate(data, text []byte) ([]byte, error) {
	before := len(data)
	data = packer().EncodeAll(text, data)
	if uint64(len(text)) > rawLimit(len(data)-before) {
		return data[:before], errors.New("text so uniform would look like an attack when it is read")
	}
	return data, nil
}

// rawLimit is how much a frame of n bytes may hold.
func rawLimit(n int) uint64 { return minRawLimit + maxRatio*uint64(n) }

// unseal returns the text of a book or root.
func unseal(key, name string, data []byte) ([]byte, error) {
	data, err := cutSum(key, data)
	if err != nil {
		return nil, err
	}
	if err := checkMagic(key, data[:magicSize], name); err != nil {
		return nil, err
	}
	text, err := inflate(data[magicSize:], maxRaw)
	if err != nil {
		return nil, damaged(key, "%v", err)
	}
	return text, nil
}

// packer and unpacker are safe for concurrent EncodeAll and DecodeAll.
var (
	packer = sync.OnceValue(func() *zstd.Encoder {
		e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false), zstd.WithSingleSegment(true))
		if err != nil {
			panic(err) // the options are constants
		}
		return e
	})
	unpacker = sync.OnceValue(func() *zstd.Decoder {
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderMaxMemory(maxRaw))
		if err != nil {
			panic(err)
		}
		return d
	})
)

// inflate decompresses one frame. The size it states is believed only within limit and maxRatio.
func inflate(frame []byte, limit uint64) ([]byte, error) {
	var h zstd.Header
	if err := h.Decode(frame); err != nil {
		return nil, fmt.Errorf("its zstd frame: %w", err)
	}
	limit = min(limit, rawLimit(len(frame)))
	if h.Skippable || !h.HasFCS || h.FrameContentSize > limit {
		return nil, errors.New("its zstd frame does not state a sane size")
	}
	text, err := unpacker().DecodeAll(frame, make([]byte, 0, h.FrameContentSize))
	if err != nil {
		return nil, fmt.Errorf("its zstd frame: %w", err)
	}
	if uint64(len(text)) != h.FrameContentSize {
		return nil, errors.New("its zstd frame has another size than it states")
	}
	return text, nil
}

// joinLines ends each line with a newline.
func joinLines(lines [][]byte) []byte {
	n := 0
	for _, l := range lines {
		n += len(l) + 1
	}
	text := make([]byte, 0, n)
	for _, l := range lines {
		text = append(append(text, l...), '\n')
	}
	return text
}

// splitLines is the inverse of joinLines; the lines alias text.
func splitLines(text []byte) ([][]byte, error) {
	lines := make([][]byte, 0, bytes.Count(text, []byte("\n")))
	for len(text) > 0 {
		line, rest, ok := bytes.Cut(text, []byte("\n"))
		if !ok {
			return nil, errors.New("its last line is cut off")
		}
		if len(line) > maxLine {
			return nil, fmt.Errorf("a line of %d bytes is too long", len(line))
		}
		lines = append(lines, line)
		text = rest
	}
	return lines, nil
}

// readAll reads a whole object.
func readAll(ctx context.Context, store objectstore.Store, key string) ([]byte, error) {
	data, err := objectstore.GetAll(ctx, store, key)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", key, err)
	}
	return data, nil
}
