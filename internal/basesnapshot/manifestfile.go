package basesnapshot

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"

	"github.com/klauspost/compress/zstd"

	"tidemark/catalog"
	"tidemark/objectstore"
)

// maxManifestStored bounds a manifest object: room for some ten million chunk objects.
const maxManifestStored = 256 << 20

// maxManifestRatio bounds decompressed over compressed size: what zstd reaches on repetitive names stays below.
const maxManifestRatio = 20000

// encodeManifest gives the manifest object's bytes.
func encodeManifest(m *Manifest) ([]byte, error) {
	text, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	if len(text) > maxManifestRaw {
		return nil, fmt.Errorf("the manifest is too large: %d bytes", len(text))
	}
	b := make([]byte, 0, manifestHeaderSize+len(text)/4)
	b = append(b, manifestMagic...)
	b = binary.LittleEndian.AppendUint16(b, FormatVersion)
	b = binary.LittleEndian.AppendUint16(b, 0)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(text)))
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderCRC(false), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	b = enc.EncodeAll(text, b)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli)), nil
}

// DecodeManifest reads a manifest object's bytes; name is for errors. It checks everything but the
// SHA-256 that the catalog records. Damage is an error with errors.Is(err, segment.ErrCorrupt).
func DecodeManifest(name string, b []byte) (*Manifest, error) {
	if len(b) < manifestHeaderSize+4 || string(b[:8]) != manifestMagic {
		return nil, damage(name, 0, "it is no manifest of a base snapshot")
	}
	version := binary.LittleEndian.Uint16(b[8:])
	if version > FormatVersion {
		return nil, versionFault(name, version)
	}
	body := b[:len(b)-4]
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(b[len(b)-4:]) ||
		crc32.Checksum(b[:20], castagnoli) != binary.LittleEndian.Uint32(b[20:]) {
		return nil, damage(name, 0, "its checksum is wrong")
	}
	raw := binary.LittleEndian.Uint64(b[12:])
	frame := body[manifestHeaderSize:]
	if version == 0 || binary.LittleEndian.Uint16(b[10:]) != 0 || raw == 0 || raw > maxManifestRaw || raw > uint64(len(frame))*maxManifestRatio {
		return nil, damage(name, 8, "its header is impossible")
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(max(raw, 16<<20)), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	defer dec.Close()
	text, err := dec.DecodeAll(frame, make([]byte, 0, raw))
	if err != nil || uint64(len(text)) != raw {
		return nil, damage(name, manifestHeaderSize, "it can't be decompressed to its size")
	}
	m := &Manifest{}
	if err := json.Unmarshal(text, m); err != nil {
		return nil, damage(name, manifestHeaderSize, "its JSON can't be read: "+err.Error())
	}
	return m, nil
}

// ReadManifest reads the manifest that a catalog entry names, checked against the entry's SHA-256. Damage,
// also a missing object, is an error with errors.Is(err, segment.ErrCorrupt) and fault.CodeOf Damage.
func ReadManifest(ctx context.Context, store objectstore.Store, s catalog.Snapshot) (*Manifest, error) {
	data, err := fetchObject(ctx, store, s.Manifest, maxManifestStored)
	if err != nil {
		return nil, err
	}
	m, err := DecodeManifest(s.Manifest.Key, data)
	if err != nil {
		return nil, err
	}
	if m.ID != s.ID {
		return nil, damage(s.Manifest.Key, 0, fmt.Sprintf("it is that of snapshot %s, not %s", m.ID, s.ID))
	}
	return m, nil
}
