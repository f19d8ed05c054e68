package basesnapshot

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"tidemark/internal/fault"
)

// maxDump bounds what is read from pg_dump: a schema of that size would hold millions of objects.
const maxDump = 512 << 20

// pgDump is a pg_dump program.
type pgDump struct {
	Path    string
	Version string // such as 15.18
	Major   int
}

var dumpVersion = regexp.MustCompile(`^pg_dump \(PostgreSQL\) ((\d+)\S*)`)

// findPgDump looks for a pg_dump that can read a server of the given major version. path is what the
// user named, or "". Of several it takes one of the server's own version, else the newest.
func findPgDump(ctx context.Context, path string, serverMajor int) (*pgDump, error) {
	if path != "" {
		d, err := askVersion(ctx, path)
		if err != nil {
			return nil, fault.Wrap(err, fault.Usage, "name a pg_dump of PostgreSQL "+strconv.Itoa(serverMajor)+" or newer", "%s can't be used", path)
		}
		if d.Major < serverMajor {
			return nil, tooOld(serverMajor, []pgDump{*d})
		}
		return d, nil
	}
	var found []pgDump
	for _, candidate := range dumpCandidates(ctx) {
		if d, err := askVersion(ctx, candidate); err == nil {
			found = append(found, *d)
		}
	}
	usable := slices.DeleteFunc(slices.Clone(found), func(d pgDump) bool { return d.Major < serverMajor })
	if len(usable) == 0 {
		return nil, tooOld(serverMajor, found)
	}
	best := slices.MaxFunc(usable, func(a, b pgDump) int {
		if own := cmp.Compare(btoi(a.Major == serverMajor), btoi(b.Major == serverMajor)); own != 0 {
			return own
		}
		return cmp.Compare(a.Major, b.Major)
	})
	return &best, nil
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func tooOld(serverMajor int, found []pgDump) error {
	hint := fmt.Sprintf("install the client programs of PostgreSQL %d or newer, or name a pg_dump with --pg-dump", serverMajor)
	if len(found) == 0 {
		return fault.New(fault.Usage, hint, "pg_dump is needed for the schema, and none was found in PATH or the usual folders")
	}
	var names []string
	for _, d := range found {
		names = append(names, d.Path+" ("+d.Version+")")
	}
	return fault.New(fault.Usage, hint, "pg_dump must be of PostgreSQL %d or newer, as the server is; found: %s", serverMajor, strings.Join(names, ", "))
}

// dumpCandidates lists where a pg_dump may be: PG_CONFIG's folder, PATH, and where the packages of Debian,
// Red Hat and Homebrew put them.
func dumpCandidates(ctx context.Context) []string {
	var list []string
	if pgConfig := os.Getenv("PG_CONFIG"); pgConfig != "" {
		if out, err := exec.CommandContext(ctx, pgConfig, "--bindir").Output(); err == nil {
			list = append(list, filepath.Join(strings.TrimSpace(string(out)), "pg_dump"))
		}
	}
	if p, err := exec.LookPath("pg_dump"); err == nil {
		list = append(list, p)
	}
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin/pg_dump", "/usr/pgsql-*/bin/pg_dump", "/opt/homebrew/opt/postgresql@*/bin/pg_dump",
		"/opt/homebrew/opt/libpq/bin/pg_dump", "/usr/local/opt/postgresql@*/bin/pg_dump", "/usr/local/opt/libpq/bin/pg_dump", "/usr/local/pgsql/bin/pg_dump"} {
		matches, _ := filepath.Glob(pattern) // the patterns are well formed
		list = append(list, matches...)
	}
	return list
}

func askVersion(ctx context.Context, path string) (*pgDump, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return nil, err
	}
	m := dumpVersion.FindSubmatch(out)
	if m == nil {
		return nil, fmt.Errorf("it doesn't say that it is pg_dump")
	}
	major, err := strconv.Atoi(string(m[2]))
	if err != nil {
		return nil, err
	}
	return &pgDump{Path: path, Version: string(m[1]), Major: major}, nil
}

// run dumps the schema under an exported snapshot and returns its table of contents. The connection's
// parameters, among them the password, go through the environment. encoding is "UTF8" or "SQL_ASCII".
func (d *pgDump) run(ctx context.Context, env []string, snapshot, encoding string, lockTimeout time.Duration, more ...string) (*toc, error) {
	args := []string{"--format=custom", "--schema-only", "--no-sync", "--compress=0", "--no-password",
		"--snapshot=" + snapshot, "--encoding=" + encoding, fmt.Sprintf("--lock-wait-timeout=%d", lockTimeout.Milliseconds())}
	args = append(args, more...)
	if target := dumpTarget(env); target != "" {
		args = append(args, target)
	}
	cmd := exec.CommandContext(ctx, d.Path, args...)
	cmd.Env = env
	cmd.WaitDelay = 5 * time.Second
	var stderr tailBuffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("pg_dump: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fault.Wrap(err, fault.Usage, "check --pg-dump", "can't start %s", d.Path)
	}
	out, readErr := io.ReadAll(io.LimitReader(stdout, maxDump+1))
	if readErr == nil && len(out) > maxDump {
		readErr = errors.New("the schema is larger than 512 MiB")
		_ = cmd.Process.Kill() // Wait tells
	}
	if err := cmd.Wait(); err != nil && readErr == nil {
		readErr = err
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if readErr != nil {
		return nil, dumpFault(readErr, stderr.line())
	}
	return parseTOC(out)
}

// errDumpLock is the mark of a pg_dump that waited too long for a lock.
var errDumpLock = errors.New("pg_dump waited too long for a lock on a table")

func dumpFault(err error, message string) error {
	switch {
	case strings.Contains(message, "lock timeout") || strings.Contains(message, "could not obtain lock"):
		return fault.Wrap(errDumpLock, fault.Failed, "end the transaction that holds the lock, or try again when it is over", "%s", message)
	case strings.Contains(message, "permission denied"):
		return fault.Wrap(err, fault.Usage, "the snapshot's role must be able to read every table: GRANT pg_read_all_data TO it; archiver check --sql prints it", "pg_dump: %s", message)
	}
	return fault.Wrap(err, fault.Failed, "", "pg_dump: %s", message)
}

// tailBuffer keeps the end of what is written to it.
type tailBuffer struct{ b []byte }

const tailSize = 4 << 10

// Write implements io.Writer.
func (t *tailBuffer) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if len(t.b) > 2*tailSize {
		t.b = append(t.b[:0], t.b[len(t.b)-tailSize:]...)
	}
	return len(p), nil
}

// line returns the end on one line.
func (t *tailBuffer) line() string {
	return string(bytes.Join(bytes.Fields(t.b), []byte(" ")))
}
