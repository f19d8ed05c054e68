package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// programs is the folder of archiver and restorer.
type programs string

// findPrograms takes what `make build` left in bin, or builds both into a folder.
func findPrograms(ctx context.Context, home string) (programs, error) {
	if _, err := os.Stat("bin/archiver"); err == nil {
		dir, err := filepath.Abs("bin")
		return programs(dir), err
	}
	out, err := exec.CommandContext(ctx, "go", "build", "-o", home+"/", "tidemark/cmd/archiver", "tidemark/cmd/restorer").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("building archiver and restorer: %w\n%s", err, out)
	}
	return programs(home), nil
}

// command prepares a program to end, when ctx does, as Ctrl-C would end it.
func (p programs) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(string(p), program), args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 20 * time.Second
	return cmd
}

// output runs a program and returns its standard output.
func (p programs) output(ctx context.Context, program string, args ...string) ([]byte, error) {
	cmd := p.command(ctx, program, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w\n%s", program, args[0], err, stderr.String())
	}
	return out, nil
}

// show runs a program as a person would: the command is printed, then what it says.
func (d *demo) show(ctx context.Context, program string, args ...string) error {
	d.command(program, args...)
	cmd := d.programs.command(ctx, program, args...)
	cmd.Stdout, cmd.Stderr = d.indented(), d.indented()
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w", program, args[0], err)
	}
	return nil
}

// background is a program that runs beside the demo.
type background struct {
	cmd     *exec.Cmd
	logFile string
	done    chan struct{}
	err     error // valid once done is closed
}

// start runs a program in the background, its output in a file.
func (p programs) start(logFile, program string, args ...string) (*background, error) {
	log, err := os.Create(logFile)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	b := &background{cmd: exec.Command(filepath.Join(string(p), program), args...), logFile: logFile, done: make(chan struct{})}
	b.cmd.Stdout, b.cmd.Stderr = log, log
	// A Ctrl-C is for the demo, which then stops this program in order.
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := b.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		b.err = b.cmd.Wait()
		close(b.done)
	}()
	return b, nil
}

// alive returns an error if the program has ended.
func (b *background) alive() error {
	select {
	case <-b.done:
		return fmt.Errorf("%s has ended: %v\n%s", filepath.Base(b.cmd.Path), b.err, b.log())
	default:
		return nil
	}
}

// stop ends the program with SIGTERM, and waits until it has archived what it has.
func (b *background) stop() error {
	if b.alive() != nil {
		return nil
	}
	if err := b.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-b.done:
	case <-time.After(waitAtMost):
		_ = b.cmd.Process.Kill()
		<-b.done
	}
	if b.err != nil {
		return fmt.Errorf("%s: %w\n%s", filepath.Base(b.cmd.Path), b.err, b.log())
	}
	return nil
}

// log returns the end of what the program printed.
func (b *background) log() string {
	text, _ := os.ReadFile(b.logFile)
	return strings.TrimSpace(string(text[max(0, len(text)-3000):]))
}
