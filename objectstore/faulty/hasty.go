package faulty

import (
	"context"
	"os"
	"path/filepath"

	"tidemark/objectstore"
)

// Hasty makes a store of files in a folder write without waiting for the disk. A crash may lose what it wrote.
func Hasty(files objectstore.Store, folder string) objectstore.Store { return hasty{files, folder} }

type hasty struct {
	objectstore.Store
	folder string
}

func (h hasty) Put(_ context.Context, key string, data []byte) error {
	path := filepath.Join(h.folder, filepath.FromSlash(key))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}
