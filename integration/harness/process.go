package harness

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"tidemark/internal/testserver/peak"
)

// Command says what to run.
type Command struct {
	Program string // "archiver" or "restorer"
	Args    []string
	Env     []string // added to a bare environment: nothing of PG*, AWS_* or TIDEMARK_* leaks in
}

// Result is what a finished program left.
type Result struct {
	Stdout, Stderr string
	Code           int // exit code; -1 when a signal ended it
	Seconds        float64
	PeakMemory     int64 // bytes of resident memory
}

// Process is a running program. Its methods may be called from several goroutines.
type Process struct {
	name   string
	cmd    *exec.Cmd
	stdout buffer
	stderr buffer
	done   chan struct{}
	result Result // valid once done is closed
}

// Run runs a program to its end, or fails the test when it takes longer than ten minutes.
func Run(tb TB, c Command) Result {
	tb.Helper()
	return Start(tb, c).Wait(tb, 10*time.Minute)
}

// Start starts a program. If it still runs when the test ends, it is killed.
func Start(tb TB, c Command) *Process {
	tb.Helper()
	p := &Process{name: c.Program, cmd: exec.Command(program(tb, c.Program), c.Args...), done: make(chan struct{})}
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + tb.TempDir(), "TMPDIR=" + os.TempDir()}, c.Env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	begin := time.Now()
	if err := p.cmd.Start(); err != nil {
		tb.Fatalf("starting %s: %v", c.Program, err)
	}
	memory := peak.Watch(p.cmd.Process.Pid)
	go func() {
		_ = p.cmd.Wait()
		p.result = Result{
			Stdout: p.stdout.String(), Stderr: p.stderr.String(),
			Code: p.cmd.ProcessState.ExitCode(), Seconds: time.Since(begin).Seconds(),
			PeakMemory: memory(p.cmd.ProcessState),
		}
		close(p.done)
	}()
	tb.Cleanup(func() {
		select {
		case <-p.done:
		default:
			_ = p.cmd.Process.Kill()
			<-p.done
		}
	})
	return p
}

// Wait waits for the program's end and returns what it left. It fails the test after the limit.
func (p *Process) Wait(tb TB, limit time.Duration) Result {
	tb.Helper()
	select {
	case <-p.done:
	case <-time.After(limit):
		_ = p.cmd.Process.Signal(syscall.SIGQUIT) // Go prints where every goroutine is
		select {
		case <-p.done:
		case <-time.After(5 * time.Second):
		}
		tb.Fatalf("%s has not ended after %s:\n%s", p.name, limit, tail(p.stderr.String(), 12000))
	}
	return p.result
}

// Stop asks the program to end with SIGTERM and waits.
func (p *Process) Stop(tb TB) Result {
	tb.Helper()
	p.Signal(tb, syscall.SIGTERM)
	return p.Wait(tb, 90*time.Second)
}

// Kill ends the program with SIGKILL and waits.
func (p *Process) Kill(tb TB) Result {
	tb.Helper()
	p.Signal(tb, syscall.SIGKILL)
	return p.Wait(tb, 30*time.Second)
}

// Signal sends a signal; a program that has ended already is no error.
func (p *Process) Signal(tb TB, s os.Signal) {
	tb.Helper()
	if err := p.cmd.Process.Signal(s); err != nil && p.Running() {
		tb.Fatalf("signalling %s: %v", p.name, err)
	}
}

// Done is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Running reports whether the program has not ended.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Stderr returns what the program printed to standard error so far.
func (p *Process) Stderr() string { return p.stderr.String() }

// WaitFor polls a condition until it holds, and fails the test when the program ends before, or after
// the limit. A condition that is dear to ask for, as one that starts a program, is asked for less often: else
// what is waited for would have to share the processors with the question.
func (p *Process) WaitFor(tb TB, what string, limit time.Duration, condition func() bool) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for {
		asked := time.Now()
		if condition() {
			return
		}
		select {
		case <-p.done:
			tb.Fatalf("%s ended with exit code %d before %s:\n%s", p.name, p.result.Code, what, tail(p.Stderr(), 4000))
		case <-ctx.Done():
			tb.Fatalf("%s: no %s after %s:\n%s", p.name, what, limit, tail(p.Stderr(), 4000))
		case <-time.After(max(50*time.Millisecond, 4*time.Since(asked))):
		}
	}
}

// buffer is a bytes.Buffer that may be read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func tail(s string, n int) string { return strings.TrimSpace(s[max(0, len(s)-n):]) }
