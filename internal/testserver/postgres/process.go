package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

// Mode is how a server is told to stop, named as in pg_ctl.
type Mode syscall.Signal

// The modes of shutting down.
const (
	Smart     = Mode(syscall.SIGTERM) // waits for the clients to leave
	Fast      = Mode(syscall.SIGINT)  // ends the clients; waits for the walsenders to send what is left
	Immediate = Mode(syscall.SIGQUIT) // as a crash; recovery at the next start
)

// startTimeout bounds a start, recovery included.
const startTimeout = 2 * time.Minute

// errOrphans is a start refused because children of a killed postmaster still live.
var errOrphans = errors.New("children of the killed server still live")

// process is a running postmaster.
type process struct {
	pid  int
	done chan struct{} // closed when it has ended
}

// Run starts a stopped server on its port and waits until it takes connections. After Kill the dead
// postmaster's children may hold its shared memory for a moment longer: while they do, it tries again.
func (s *Server) Run() error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if err := s.Spawn(); err != nil {
			return err
		}
		err := s.ready(ctx)
		if !errors.Is(err, errOrphans) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

// Spawn starts a stopped server without waiting for it to be ready.
func (s *Server) Spawn() error {
	if s.process != nil {
		return fmt.Errorf("the server runs already, pid %d", s.process.pid)
	}
	log, err := os.OpenFile(s.LogFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := s.account.command(s.Home, s.Path("postgres"), "-D", s.DataDir,
		"-k", s.SocketDir, "-h", s.Host, "-p", strconv.Itoa(s.Port))
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(cmd.Environ(), s.env...)
	p := &process{done: make(chan struct{})}
	started := make(chan error, 1)
	go p.tend(cmd, started)
	if err := <-started; err != nil {
		return err
	}
	s.process = p
	return nil
}

// tend starts the program and waits for its end on one locked thread: the parent-death signal is
// bound to the thread that started the child, not to the process.
func (p *process) tend(cmd *exec.Cmd, started chan<- error) {
	runtime.LockOSThread()
	defer close(p.done)
	if err := cmd.Start(); err != nil {
		started <- err
		return
	}
	p.pid = cmd.Process.Pid
	started <- nil
	_ = cmd.Wait() // how it ended is in the server's log
}

// Running reports whether the server's process lives.
func (s *Server) Running() bool {
	if s.process == nil {
		return false
	}
	select {
	case <-s.process.done:
		return false
	default:
		return true
	}
}

// Signal asks the server to stop and returns without waiting; Wait waits.
func (s *Server) Signal(mode Mode) error {
	if !s.Running() {
		return nil
	}
	return syscall.Kill(s.process.pid, syscall.Signal(mode))
}

// Wait waits for the server's end after Signal.
func (s *Server) Wait(ctx context.Context) error {
	if s.process == nil {
		return nil
	}
	select {
	case <-s.process.done:
		s.process = nil
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the server has not stopped: %w: %s", ctx.Err(), s.LogTail(2000))
	}
}

// Stop shuts the server down and waits. A server that is stopped already is no error.
func (s *Server) Stop(mode Mode) error {
	if err := s.Signal(mode); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	return s.Wait(ctx)
}

// Kill ends the postmaster with SIGKILL and waits for it. Its children notice by themselves, a little later;
// Run waits for them.
func (s *Server) Kill() error {
	if err := s.Signal(Mode(syscall.SIGKILL)); err != nil {
		return err
	}
	return s.Wait(context.Background())
}

// Restart stops the server and runs it again on the same port.
func (s *Server) Restart(mode Mode) error {
	if err := s.Stop(mode); err != nil {
		return err
	}
	return s.Run()
}
