package cli

import (
	"fmt"
	"io"
	"log/slog"
	"time"

	"tidemark/internal/fault"
)

// Env is what a command works with. It is valid while the command runs.
type Env struct {
	Globals *Globals
	Name    string       // of the binary
	Log     *slog.Logger // to standard error, secrets masked
	Stdout  io.Writer    // data
	Stderr  io.Writer    // everything else
	Now     func() time.Time

	signals *signals
}

// ArchiveURL returns the value of --archive, or a usage error that says how to set it.
func (e *Env) ArchiveURL() (string, error) {
	if e.Globals.Archive == "" {
		return "", fault.New(fault.Usage,
			"give --archive URL, set TIDEMARK_ARCHIVE, or put \"archive: URL\" into the --config file", "no archive was named")
	}
	return e.Globals.Archive, nil
}

// Graceful returns a channel that is closed at the first SIGTERM or SIGINT, and takes that signal's
// effect away from the command's context: the command ends by itself, in good order. A SIGINT after that
// cancels the context. The exit code after SIGINT is 130 either way, after SIGTERM what the command returns.
func (e *Env) Graceful() <-chan struct{} { return e.signals.beGraceful() }

// Next prints a "next:" line: what a success leaves to do.
func (e *Env) Next(format string, args ...any) {
	fmt.Fprintln(e.Stderr, "next: "+oneLine(fmt.Sprintf(format, args...)))
}

// Note prints a line for people to standard error, secrets masked.
func (e *Env) Note(format string, args ...any) {
	fmt.Fprintln(e.Stderr, oneLine(fmt.Sprintf(format, args...)))
}
