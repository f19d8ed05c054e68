// Package harness runs the built programs, archiver and restorer, as a person or a script would, and
// reads what they print. Tests of the contract stand on it; they never call into the programs' code.
package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// TB is what this package needs of a testing.TB.
type TB interface {
	Helper()
	Cleanup(func())
	Logf(format string, args ...any)
	Fatalf(format string, args ...any)
	TempDir() string
}

var build struct {
	sync.Mutex
	dir string
}

// programDir builds both programs on the first call of the process and returns their folder. With
// TIDEMARK_TEST_BIN it is that folder, and nothing is built.
func programDir() (string, error) {
	if dir := os.Getenv("TIDEMARK_TEST_BIN"); dir != "" {
		return dir, nil
	}
	build.Lock()
	defer build.Unlock()
	if build.dir != "" {
		return build.dir, nil
	}
	dir, err := os.MkdirTemp("", "tidemark-bin-")
	if err != nil {
		return "", err
	}
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err == nil {
		cmd := exec.Command("go", "build", "-o", dir, "./cmd/archiver", "./cmd/restorer")
		cmd.Dir = strings.TrimSpace(string(root))
		var out []byte
		if out, err = cmd.CombinedOutput(); err != nil {
			err = fmt.Errorf("%w\n%s", err, out)
		}
	}
	if err != nil {
		os.RemoveAll(dir)
		return "", fmt.Errorf("building the programs: %w", err)
	}
	build.dir = dir
	return dir, nil
}

// RemovePrograms removes what was built. TestMain calls it at the end.
func RemovePrograms() {
	build.Lock()
	defer build.Unlock()
	if build.dir != "" {
		os.RemoveAll(build.dir)
		build.dir = ""
	}
}

func program(tb TB, name string) string {
	tb.Helper()
	dir, err := programDir()
	if err != nil {
		tb.Fatalf("%v", err)
	}
	return filepath.Join(dir, name)
}
