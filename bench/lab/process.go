package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"tidemark/internal/testserver/peak"
)

// Command says what program to run. Programs get a bare environment: nothing of PG*, AWS_* or TIDEMARK_*
// leaks in.
type Command struct {
	Path  string
	Args  []string
	Env   []string
	Input string // file to read as standard input; "": none
}

// Usage is what a program that has ended took. CPU is user and system time of it and of the children it
// waited for.
type Usage struct {
	Wall, CPU time.Duration
	Memory    int64 // bytes: the high-water mark of resident memory (VmHWM); of the process alone
	Output    []byte
	Walsender time.Duration // CPU of the walsender that it read from, where that was looked at
}

// Process is a program that runs.
type Process struct {
	name   string
	cmd    *exec.Cmd
	begin  time.Time
	stdout bytes.Buffer
	stderr tail
	input  *os.File

	exited chan struct{} // it has ended; what it took is being gathered
	done   chan struct{} // usage and err are set
	usage  Usage
	err    error
}

// Run runs a program to its end. It is an error if the program fails.
func Run(ctx context.Context, c Command) (Usage, error) {
	p, err := Start(ctx, c)
	if err != nil {
		return Usage{}, err
	}
	return p.Wait()
}

// Start starts a program. It is killed when ctx ends.
func Start(ctx context.Context, c Command) (*Process, error) {
	p := &Process{name: filepath.Base(c.Path), cmd: exec.CommandContext(ctx, c.Path, c.Args...), exited: make(chan struct{}), done: make(chan struct{})}
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.TempDir(), "TMPDIR=" + os.TempDir()}, c.Env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	if c.Input != "" {
		f, err := os.Open(c.Input)
		if err != nil {
			return nil, err
		}
		p.cmd.Stdin, p.input = f, f
	}
	p.begin = time.Now()
	if err := p.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("starting %s: %w", p.name, err), p.closeInput())
	}
	go p.tend(peak.Watch(p.cmd.Process.Pid))
	return p, nil
}

func (p *Process) closeInput() error {
	if p.input == nil {
		return nil
	}
	return p.input.Close()
}

// tend waits for the end and keeps what is left.
func (p *Process) tend(memory func(*os.ProcessState) int64) {
	err := p.cmd.Wait()
	p.usage.Wall = time.Since(p.begin)
	close(p.exited)
	state := p.cmd.ProcessState
	p.usage.CPU, p.usage.Memory, p.usage.Output = state.UserTime()+state.SystemTime(), memory(state), p.stdout.Bytes()
	if err != nil {
		err = fmt.Errorf("%s %s: %w\n%s", p.name, first(p.cmd.Args[1:]), err, p.stderr.String())
	}
	p.err = errors.Join(err, p.closeInput())
	close(p.done)
}

// Wait waits for the program's end.
func (p *Process) Wait() (Usage, error) {
	<-p.done
	return p.usage, p.err
}

// Stop asks the program to end with SIGTERM, and waits.
func (p *Process) Stop() (Usage, error) {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // one that has ended needs no signal
	return p.Wait()
}

// Interrupt ends the program with SIGINT and waits; how it ends is its own matter.
func (p *Process) Interrupt() Usage {
	_ = p.cmd.Process.Signal(syscall.SIGINT)
	u, _ := p.Wait()
	return u
}

// PID returns the process's number.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Running reports whether the program has not ended.
func (p *Process) Running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// Until polls a condition until it holds; the program's end before, or ten minutes, are errors.
func (p *Process) Until(ctx context.Context, what string, holds func() bool) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(10 * time.Minute)
	for !holds() {
		select {
		case <-p.exited:
			_, err := p.Wait()
			return fmt.Errorf("%s ended before %s: %w", p.name, what, err)
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-limit:
			return fmt.Errorf("%s: no %s after ten minutes:\n%s", p.name, what, p.stderr.String())
		case <-tick.C:
		}
	}
	return nil
}

func first(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

// tail keeps the end of what is written to it.
type tail struct {
	mu sync.Mutex
	b  []byte
}

var _ io.Writer = (*tail)(nil)

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	const most = 4000
	t.b = append(t.b, p...)
	if len(t.b) > 2*most {
		t.b = append(t.b[:0], t.b[len(t.b)-most:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.b))
}
