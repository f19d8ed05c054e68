package lab

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
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

// CompressedWAL is the size in bytes of the WAL held, each file compressed on its own by zstd at level 1, and the name
// of what compressed it. Of the first and the last file only what lies within counts.
func (src *Source) CompressedWAL(ctx context.Context) (size int64, by string, err error) {
	compress, by, err := zstdLevel1()
	if err != nil {
		return 0, "", err
	}
	for n := src.Begin / walSegment; n <= (src.End-1)/walSegment; n++ {
		data, err := os.ReadFile(filepath.Join(src.Server.DataDir, "pg_wal", walFile(n)))
		if err != nil {
			return 0, "", err
		}
		if n == (src.End-1)/walSegment {
			data = data[:(src.End-1)%walSegment+1]
		}
		if n == src.Begin/walSegment {
			data = data[src.Begin%walSegment:]
		}
		compressed, err := compress(ctx, data)
		if err != nil {
			return 0, "", err
		}
		size += compressed
	}
	return size, by, nil
}

// zstdLevel1 is the zstd program, or where there is none the Go package.
func zstdLevel1() (compress func(context.Context, []byte) (int64, error), by string, err error) {
	if path, err := exec.LookPath("zstd"); err == nil {
		return func(ctx context.Context, data []byte) (int64, error) {
			cmd := exec.CommandContext(ctx, path, "-1", "--stdout", "--quiet")
			cmd.Stdin = bytes.NewReader(data)
			out, err := cmd.Output()
			return int64(len(out)), err
		}, "zstd -1", nil
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(1)), zstd.WithEncoderConcurrency(1))
	return func(_ context.Context, data []byte) (int64, error) { return int64(len(enc.EncodeAll(data, nil))), nil }, "klauspost/compress zstd, fastest", err
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
