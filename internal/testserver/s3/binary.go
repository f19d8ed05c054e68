package s3

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

// The server that tests run against, at a version known to have conditional writes and checksums.
const (
	module  = "github.com/versity/versitygw"
	version = "v1.8.0"
)

var binary struct {
	sync.Mutex
	path string
}

// findBinary returns versitygw's path: in PATH, in Go's bin folders, or in a cache folder, where it is
// built first if it is missing.
func findBinary(ctx context.Context) (string, error) {
	binary.Lock()
	defer binary.Unlock()
	if binary.path != "" {
		return binary.path, nil
	}
	path, err := searchBinary(ctx)
	binary.path = path
	return path, err
}

func searchBinary(ctx context.Context) (string, error) {
	if path, err := exec.LookPath("versitygw"); err == nil {
		return filepath.Abs(path)
	}
	for _, folder := range goBins(ctx) {
		if path := filepath.Join(folder, "versitygw"); executable(path) {
			return path, nil
		}
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	folder := filepath.Join(cache, "tidemark-test", "versitygw-"+version)
	path := filepath.Join(folder, "versitygw")
	if executable(path) {
		return path, nil
	}
	return path, build(ctx, folder)
}

// goBins are the folders that go install puts binaries into.
func goBins(ctx context.Context) []string {
	out, err := exec.CommandContext(ctx, "go", "env", "GOBIN", "GOPATH").Output()
	if err != nil {
		return nil
	}
	var folders []string
	lines := strings.Split(strings.TrimRight(string(out), "\n"), "\n")
	for i, line := range lines {
		if i == 0 && line != "" {
			folders = append(folders, line)
		}
		if i == 1 {
			for _, root := range filepath.SplitList(line) {
				folders = append(folders, filepath.Join(root, "bin"))
			}
		}
	}
	return folders
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// build installs versitygw into folder. Test binaries of several packages may want it at once: one
// builds, the others wait.
func build(ctx context.Context, folder string) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	lock, err := os.Create(filepath.Join(folder, "lock"))
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	if executable(filepath.Join(folder, "versitygw")) {
		return nil
	}
	cmd := exec.CommandContext(ctx, "go", "install", module+"/cmd/versitygw@"+version)
	cmd.Dir = folder // outside of any module
	cmd.Env = append(os.Environ(), "GOBIN="+folder, "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go install %s: %w\n%s", module, err, out)
	}
	return nil
}
