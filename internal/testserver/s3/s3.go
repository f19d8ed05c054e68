// Package s3 starts a real S3 server (versitygw) on loopback for tests.
package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Bucket is the bucket that every server has.
const Bucket = "tidemark"

// Region is what the server calls its region.
const Region = "us-east-1"

const (
	startTimeout = 30 * time.Second
	stopTimeout  = 10 * time.Second
	pollEvery    = 20 * time.Millisecond
	healthPath   = "/tidemark-health"
)

// Server is a running (or stopped) S3 server with its own folder.
type Server struct {
	Endpoint  string // http://127.0.0.1:port
	Address   string // 127.0.0.1:port
	AccessKey string
	SecretKey string
	Folder    string // Folder/objects/<bucket>/<key> are the stored files

	binary string
	mu     sync.Mutex
	run    *running // nil while stopped
}

// running is one process of a server.
type running struct {
	cmd    *exec.Cmd
	output *bytes.Buffer // read only after exited is closed
	exited chan struct{}
}

// Start starts a server for a test, and stops it at the test's end. Credentials are not
// set: see Setenv and Environ.
func Start(t testing.TB) *Server {
	t.Helper()
	s, err := StartIn(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// StartIn starts a server that keeps its data in folder. The caller stops it.
func StartIn(ctx context.Context, folder string) (*Server, error) {
	binary, err := findBinary(ctx)
	if err != nil {
		return nil, err
	}
	s := &Server{AccessKey: "tidemark-test", SecretKey: "not-a-secret-but-long", Folder: folder, binary: binary}
	for _, sub := range []string{"objects", "meta"} {
		if err := os.MkdirAll(filepath.Join(folder, sub), 0o755); err != nil {
			return nil, err
		}
	}
	// The port is free when it is chosen, but somebody else may be faster.
	for range 5 {
		if err = s.choosePort(); err != nil {
			return nil, err
		}
		if err = s.Restart(ctx); err == nil {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	if err := s.MakeBucket(ctx, Bucket); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

func (s *Server) choosePort() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.Address = l.Addr().String()
	s.Endpoint = "http://" + s.Address
	return l.Close()
}

// Environ are the variables that give both S3 drivers their credentials, and keep the AWS SDK away from
// files and metadata services.
func (s *Server) Environ() []string {
	return []string{
		"AWS_ACCESS_KEY_ID=" + s.AccessKey,
		"AWS_SECRET_ACCESS_KEY=" + s.SecretKey,
		"AWS_REGION=" + Region,
		"AWS_EC2_METADATA_DISABLED=true",
		"AWS_CONFIG_FILE=" + os.DevNull,
		"AWS_SHARED_CREDENTIALS_FILE=" + os.DevNull,
		"MINIO_ROOT_USER=" + s.AccessKey,
		"MINIO_ROOT_PASSWORD=" + s.SecretKey,
	}
}

// Setenv sets Environ for the rest of a test that isn't parallel.
func (s *Server) Setenv(t testing.TB) {
	t.Helper()
	for _, variable := range s.Environ() {
		name, value, _ := strings.Cut(variable, "=")
		t.Setenv(name, value)
	}
}

// S3URL is an archive URL for the s3 driver, under a prefix of the bucket.
func (s *Server) S3URL(prefix string) string {
	return "s3://" + Bucket + "/" + prefix + "?region=" + Region + "&endpoint=" + url.QueryEscape(s.Endpoint)
}

// MinioURL is an archive URL for the minio driver, under a prefix of the bucket.
func (s *Server) MinioURL(prefix string) string {
	return "minio://" + s.Address + "/" + Bucket + "/" + prefix + "?tls=false"
}

// Stop ends the server's process, if it runs, as an outage does: at once.
func (s *Server) Stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.run == nil {
		return nil
	}
	run := s.run
	s.run = nil
	if err := run.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-run.exited:
		return nil
	case <-time.After(stopTimeout):
		return fmt.Errorf("versitygw (process %d) does not end", run.cmd.Process.Pid)
	}
}

// Freeze stops the process without ending it, so that connections stay open and nothing answers. It
// returns when the process stands still. Thaw goes on.
func (s *Server) Freeze(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.run == nil {
		return errors.New("the server is stopped")
	}
	process := s.run.cmd.Process
	if err := process.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		still, err := standsStill(ctx, process.Pid)
		if still || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Thaw ends Freeze.
func (s *Server) Thaw() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.run == nil {
		return errors.New("the server is stopped")
	}
	return s.run.cmd.Process.Signal(syscall.SIGCONT)
}

// standsStill says whether every thread of a process (on macOS: the process) is stopped.
func standsStill(ctx context.Context, pid int) (bool, error) {
	args := []string{"-o", "state=", "-p", strconv.Itoa(pid)}
	if runtime.GOOS == "linux" {
		args = append(args, "-L")
	}
	out, err := exec.CommandContext(ctx, "ps", args...).Output()
	if err != nil {
		return false, fmt.Errorf("ps: %w", err)
	}
	states := strings.Fields(string(out))
	return !slices.ContainsFunc(states, func(state string) bool { return !strings.HasPrefix(state, "T") }), nil
}

// Restart starts a stopped server again, with its data, on its old port. It returns when the server
// answers.
func (s *Server) Restart(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.run != nil {
		return errors.New("the server is running")
	}
	run := &running{output: &bytes.Buffer{}, exited: make(chan struct{})}
	run.cmd = exec.Command(s.binary, s.arguments()...)
	run.cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+s.AccessKey, "ROOT_SECRET_KEY="+s.SecretKey)
	run.cmd.Stdout, run.cmd.Stderr = run.output, run.output
	if err := run.cmd.Start(); err != nil {
		return fmt.Errorf("start versitygw: %w", err)
	}
	go func() {
		_ = run.cmd.Wait()
		close(run.exited)
	}()
	if err := s.awaitHealth(ctx, run); err != nil {
		_ = run.cmd.Process.Kill()
		<-run.exited
		return err
	}
	s.run = run
	return nil
}

// arguments are the server's. Metadata go into extended attributes where the file system has them: in a
// folder of their own they outlive a put that failed, and the server then takes the key for taken.
func (s *Server) arguments() []string {
	objects := filepath.Join(s.Folder, "objects")
	args := []string{"--port", s.Address, "--region", Region, "--quiet", "--health", healthPath, "posix"}
	if unix.Setxattr(objects, "user.tidemark-test", []byte("x"), 0) != nil {
		args = append(args, "--sidecar", filepath.Join(s.Folder, "meta"))
	}
	return append(args, objects)
}

// awaitHealth returns when the process answers on its port, or why it doesn't.
func (s *Server) awaitHealth(ctx context.Context, run *running) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		if s.healthy(ctx) {
			return nil
		}
		select {
		case <-tick.C:
		case <-run.exited:
			return fmt.Errorf("versitygw has ended:\n%s", run.output)
		case <-ctx.Done():
			return fmt.Errorf("versitygw does not answer on %s: %w", s.Address, ctx.Err())
		}
	}
}

func (s *Server) healthy(ctx context.Context) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Endpoint+healthPath, nil)
	if err != nil {
		return false
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return false
	}
	_ = response.Body.Close()
	return response.StatusCode == http.StatusOK
}
