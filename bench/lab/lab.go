// Package lab is where the benchmarks work: real servers, the built programs as others run them, and
// what they take.
package lab

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"tidemark/internal/testserver/postgres"
	"tidemark/internal/testserver/s3"
)

// Lab is the frame of one run of the benchmarks.
type Lab struct {
	Bin   string  // folder of the built programs
	Runs  int     // of each comparison
	Scale float64 // of every size; 1 for the goals
	Logf  func(format string, args ...any)
}

// Build builds archiver and restorer into a new folder, which the caller removes.
func Build(ctx context.Context) (dir string, err error) {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("finding the module: %w", err)
	}
	if dir, err = os.MkdirTemp("", "tidemark-bin-"); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-o", dir, "./cmd/archiver", "./cmd/restorer")
	cmd.Dir = strings.TrimSpace(string(root))
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // as they are built for others (deploy/Dockerfile)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", errors.Join(fmt.Errorf("building the programs: %w\n%s", err, out), os.RemoveAll(dir))
	}
	return dir, nil
}

// Cores is the number of processors that the programs may use.
func (l *Lab) Cores() int { return runtime.NumCPU() }

// N scales a number of rows; at least 1,000 are left, and whole thousands.
func (l *Lab) N(rows int) int {
	n := int(float64(rows)*l.Scale) / 1000 * 1000
	return max(n, 1000)
}

// Stage is a place for one scenario: a folder and servers, which Close removes.
type Stage struct {
	*Lab
	Dir    string
	closes []func() error
}

// Stage makes a place for a scenario. The caller closes it.
func (l *Lab) Stage() (*Stage, error) {
	dir, err := os.MkdirTemp("", "tidemark-bench-")
	if err != nil {
		return nil, err
	}
	return &Stage{Lab: l, Dir: dir, closes: []func() error{func() error { return os.RemoveAll(dir) }}}, nil
}

// Close stops the servers and removes the folder.
func (s *Stage) Close() (err error) {
	for i := len(s.closes) - 1; i >= 0; i-- {
		err = errors.Join(err, s.closes[i]())
	}
	s.closes = nil
	return err
}

// Settings are those of every server: memory as on a small machine, full page images as in production, no
// checkpoints by time or size within a run, and no waiting for the disk, on either side.
var Settings = map[string]string{
	"shared_buffers": "1GB", "full_page_writes": "on", "max_wal_size": "64GB", "checkpoint_timeout": "1h",
	"maintenance_work_mem": "256MB", "wal_retrieve_retry_interval": "10ms", "autovacuum": "off",
}

// DefaultWAL are PostgreSQL's defaults of what decides how much WAL is written. A server with them makes checkpoints, and
// after each of them its WAL has full images of pages again.
var DefaultWAL = map[string]string{"max_wal_size": "1GB", "checkpoint_timeout": "5min", "full_page_writes": "on"}

// Server starts a PostgreSQL until the stage is closed.
func (s *Stage) Server(settings ...map[string]string) (*postgres.Server, error) {
	all := maps.Clone(Settings)
	for _, more := range settings {
		maps.Copy(all, more)
	}
	server, err := postgres.Launch(postgres.Options{Settings: all})
	if err != nil {
		return nil, err
	}
	s.closes = append(s.closes, server.Close)
	return server, nil
}

// Recover starts a server on a data folder that populate makes. The caller closes it.
func (s *Stage) Recover(populate func(dataDir string) error, settings map[string]string) (*postgres.Server, error) {
	all := maps.Clone(Settings)
	maps.Copy(all, settings)
	return postgres.Launch(postgres.Options{Settings: all, Populate: populate})
}

// S3 starts an S3 server until the stage is closed.
func (s *Stage) S3(ctx context.Context) (*s3.Server, error) {
	folder, err := os.MkdirTemp(s.Dir, "s3-")
	if err != nil {
		return nil, err
	}
	server, err := s3.StartIn(ctx, folder)
	if err != nil {
		return nil, err
	}
	s.closes = append(s.closes, server.Stop)
	return server, nil
}

// Path names a file or folder of the stage.
func (s *Stage) Path(name string) string { return filepath.Join(s.Dir, name) }

// Archiver makes a command of archiver's.
func (l *Lab) Archiver(env []string, args ...string) Command {
	return Command{Path: filepath.Join(l.Bin, "archiver"), Args: args, Env: env}
}

// Restorer makes a command of restorer's.
func (l *Lab) Restorer(env []string, args ...string) Command {
	return Command{Path: filepath.Join(l.Bin, "restorer"), Args: args, Env: env}
}

// Settle lets the disk write what earlier runs left, so that the next one doesn't pay for it.
func Settle() { syscall.Sync() }
