package segment

import (
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// minCompress is the raw size below which compression is not tried.
const minCompress = 32

// decodeSlack is room after the raw bytes that lets the decoder use its fastest copy. It is given to
// frames of slackFrom bytes and more: a block may have thousands of small ones.
const (
	decodeSlack = 128<<10 + 32
	slackFrom   = 64 << 10
)

// The coders are shared: EncodeAll and DecodeAll are stateless and safe for concurrent use, and their
// tables are too large to be made per segment. Entropy coding even without matches halves bytea columns,
// whose text form is hexadecimal, and costs nothing (0.96 to 0.99 of the time) on rows that have matches.
var (
	sharedEncoder = sync.OnceValue(func() *zstd.Encoder {
		e, err := zstd.NewWriter(nil, zstd.WithWindowSize(512<<10), zstd.WithEncoderLevel(zstd.SpeedFastest),
			zstd.WithAllLitEntropyCompression(true), zstd.WithEncoderCRC(false))
		if err != nil {
			panic("segment: zstd encoder options: " + err.Error())
		}
		return e
	})
	sharedDecoder = sync.OnceValue(func() *zstd.Decoder {
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxMemory(maxFrameRaw), zstd.WithDecoderMaxWindow(maxFrameRaw), zstd.WithDecodeAllCapLimit(true))
		if err != nil {
			panic("segment: zstd decoder options: " + err.Error())
		}
		return d
	})
)

// compress appends src to dst as one zstd frame, or as it is where that would not be shorter.
func compress(dst, src []byte) []byte {
	start := len(dst)
	if len(src) >= minCompress {
		dst = sharedEncoder().EncodeAll(src, dst)
		if len(dst)-start < len(src) {
			return dst
		}
	}
	return append(dst[:start], src...)
}

// decompress turns stored into exactly raw bytes, in buf's memory where that is large enough. The
// result may be buf's memory, never stored's. raw has been checked against maxFrameRaw.
func decompress(buf, stored []byte, raw int) ([]byte, error) {
	if len(stored) == raw {
		return append(buf[:0], stored...), nil
	}
	need := raw
	if raw >= slackFrom {
		need += decodeSlack
	}
	if cap(buf) < need {
		buf = make([]byte, 0, need)
	}
	out, err := sharedDecoder().DecodeAll(stored, buf[:0])
	if err != nil {
		return nil, fmt.Errorf("the compressed data is wrong: %w", err)
	}
	if len(out) != raw {
		return nil, fmt.Errorf("decompression gives %d bytes instead of %d", len(out), raw)
	}
	return out, nil
}
