package lab

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"

	"tidemark/internal/testserver/postgres"
	"tidemark/segment"
)

const walSegment = 16 << 20 // bytes of a WAL file, as initdb makes them

func walFile(n segment.LSN) string {
	const perID = 1 << 32 / walSegment
	return fmt.Sprintf("%08X%08X%08X", 1, uint64(n)/perID, uint64(n)%perID)
}

// CompressedWAL is the size in bytes of the WAL held, each file compressed on its own by zstd at level 1; of the first
// and the last file only what lies within.
func (src *Source) CompressedWAL() (size int64, err error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(1)))
	if err != nil {
		return 0, err
	}
	defer enc.Close()
	var out []byte
	for n := src.Begin / walSegment; n <= (src.End-1)/walSegment; n++ {
		data, err := os.ReadFile(filepath.Join(src.Server.DataDir, "pg_wal", walFile(n)))
		if err != nil {
			return 0, err
		}
		if n == (src.End-1)/walSegment {
			data = data[:(src.End-1)%walSegment+1]
		}
		if n == src.Begin/walSegment {
			data = data[src.Begin%walSegment:]
		}
		out = enc.EncodeAll(data, out[:0])
		size += int64(len(out))
	}
	return size, nil
}

// SaveWAL copies the server's WAL, up to now, to a folder as archive_command would have.
func SaveWAL(s *postgres.Server, switched segment.LSN, folder string) error {
	if err := s.MakeDir(folder); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(s.DataDir, "pg_wal", "0000000100*"))
	if err != nil {
		return err
	}
	last := walFile((switched - 1) / walSegment)
	for _, file := range files {
		if name := filepath.Base(file); len(name) == len(last) && name <= last {
			if err := copyFile(file, filepath.Join(folder, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

func copyFile(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o644)
}
