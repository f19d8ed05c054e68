package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"tidemark/internal/cli/clitest"
	"tidemark/internal/config"
	"tidemark/internal/fault"
)

// demo is a program with every shape of setting that the binaries have.
type demo struct {
	Globals
	Show       show       `cmd:"" help:"Print the settings."`
	Fail       failing    `cmd:"" help:"Fail."`
	Wait       wait       `cmd:"" help:"Wait for a signal."`
	Completion Completion `cmd:"" help:"Print shell completion code."`
}

type show struct {
	Output
	SegmentMaxAge  time.Duration `default:"10s" help:"Age."`
	SegmentMaxSize config.Size   `default:"32MiB" help:"Size."`
	Jobs           int           `default:"2" help:"Jobs."`
	Table          Patterns      `help:"Tables." placeholder:"PATTERN"`
	NewArchive     bool          `help:"New."`
	Source         string        `help:"Source." placeholder:"DSN"`
}

func (*show) Help() string {
	return "Examples:\n\n    demo show --jobs 4\n"
}

func (s *show) Run(_ context.Context, env *Env) error {
	env.Log.Debug("shown", "source", s.Source)
	if s.JSON() {
		return WriteJSON(env.Stdout, map[string]any{"jobs": s.Jobs})
	}
	t := NewTable("setting", ">value")
	t.Row("archive", env.Globals.Archive)
	t.Row("segment-max-age", s.SegmentMaxAge)
	t.Row("segment-max-size", s.SegmentMaxSize)
	t.Row("jobs", s.Jobs)
	t.Row("table", s.Table)
	t.Row("new-archive", s.NewArchive)
	return t.Write(env.Stdout)
}

type failing struct {
	Code int    `arg:"" help:"Exit code."`
	Text string `arg:"" help:"Message."`
}

func (f *failing) Run(_ context.Context, env *Env) error {
	if f.Code == 1 {
		return errors.New(f.Text)
	}
	env.Next("run %s", "make demo")
	return fault.New(fault.Code(f.Code), "try the other way", "%s", f.Text)
}

type wait struct {
	Graceful bool `help:"End in good order."`
}

func (w *wait) Run(ctx context.Context, env *Env) error {
	ending := make(<-chan struct{})
	if w.Graceful {
		ending = env.Graceful()
	}
	fmt.Fprintln(env.Stdout, "waiting")
	if err := os.WriteFile("waiting", []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return fmt.Errorf("cut short: %w", ctx.Err())
	case <-ending:
		fmt.Fprintln(env.Stdout, "ended in good order")
		return nil
	}
}

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"demo": func() { Main("demo", "A program for tests.", &demo{}) },
	})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:   "testdata",
		Setup: func(e *testscript.Env) error { e.Setenv("TZ", "UTC"); return nil },
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": clitest.Exits, "appears": appears, "terminate": terminate,
		},
		RequireExplicitExec: true,
	})
}

// appears waits until a file exists and is not empty.
func appears(ts *testscript.TestScript, _ bool, args []string) {
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if info, err := os.Stat(ts.MkAbs(args[0])); err == nil && info.Size() > 0 {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s didn't appear", args[0])
		}
	}
}

// terminate sends SIGTERM to the process whose id stands in a file.
func terminate(ts *testscript.TestScript, _ bool, args []string) {
	pid, err := strconv.Atoi(ts.ReadFile(args[0]))
	ts.Check(err)
	ts.Check(syscall.Kill(pid, syscall.SIGTERM))
}
