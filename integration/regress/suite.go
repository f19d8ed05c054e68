// Package regress runs PostgreSQL's own regression suite and asks whether its database comes through an archive. The
// suite comes from the source package of the server that is installed, at test time; nothing of it is kept here.
package regress

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"tidemark/internal/testserver/debian"
	"tidemark/internal/testserver/postgres"
)

// Database is the name that the suite expects.
const Database = "regression"

// Suite is the regression suite of one release.
type Suite struct {
	dir string // src/test/regress, and lib with the libraries that the tests load
}

// runner is the program that runs the schedule, seen from the server's programs.
const runner = "../lib/pgxs/src/test/regress/pg_regress"

// Find fetches the suite of the server's release, and builds its library, or finds what an earlier call built.
func Find(server postgres.Binaries) (Suite, error) {
	if _, err := os.Stat(server.Path(runner)); err != nil {
		return Suite{}, fmt.Errorf("the installed PostgreSQL has no pg_regress: %w", err)
	}
	name := "postgresql-" + strconv.Itoa(server.Major)
	version := debian.Installed(name)
	if version == "" {
		return Suite{}, fmt.Errorf("%s is not installed as a package of Debian: there is no source package to take the suite from", name)
	}
	dir, err := postgres.Cached("regress-"+version, func(dir string) error { return fill(dir, name, version, server) })
	if err != nil {
		return Suite{}, fmt.Errorf("the regression suite of %s %s: %w", name, version, err)
	}
	return Suite{dir: dir}, nil
}

// fill fetches the sources and the server's headers, and keeps what the tests need.
func fill(dir, name, version string, server postgres.Binaries) error {
	work, err := os.MkdirTemp("", "tidemark-regress-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	source, headers, lib := filepath.Join(work, "source"), filepath.Join(work, "headers"), filepath.Join(dir, "lib")
	if err := debian.Source(source, name, version); err != nil {
		return err
	}
	major := strconv.Itoa(server.Major)
	if err := debian.UnpackAlone(headers, "postgresql-server-dev-"+major+"="+version); err != nil {
		return err
	}
	if err := os.Mkdir(lib, 0o755); err != nil {
		return err
	}
	tests := filepath.Join(source, "src", "test", "regress")
	build := exec.Command("cc", "-O1", "-fPIC", "-shared", "-w",
		"-I", filepath.Join(headers, "usr", "include", "postgresql", major, "server"),
		"-o", filepath.Join(lib, "regress.so"), filepath.Join(tests, "regress.c"))
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("compiling regress.c: %w: %s", err, out)
	}
	// The tests look for those of contrib/spi in the same folder.
	for _, library := range []string{"refint.so", "autoinc.so"} {
		if err := os.Symlink(server.Path("../lib/"+library), filepath.Join(lib, library)); err != nil {
			return err
		}
	}
	copying := exec.Command("cp", "-R", filepath.Join(tests, "sql"), filepath.Join(tests, "expected"), filepath.Join(tests, "data"),
		filepath.Join(tests, "parallel_schedule"), filepath.Join(tests, "resultmap"), dir)
	if out, err := copying.CombinedOutput(); err != nil {
		return fmt.Errorf("copying the suite: %w: %s", err, out)
	}
	return nil
}

// CreateDatabase makes the suite's database as pg_regress would, so that something else can be at work on it.
func (s Suite) CreateDatabase(ctx context.Context, server *postgres.Server) error {
	if err := server.Exec(ctx, "postgres", "CREATE DATABASE "+Database+" TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'"); err != nil {
		return err
	}
	var sql strings.Builder
	for _, setting := range []string{"lc_messages = 'C'", "lc_monetary = 'C'", "lc_numeric = 'C'", "lc_time = 'C'", "bytea_output = 'hex'", "timezone_abbreviations = 'Default'"} {
		sql.WriteString("ALTER DATABASE " + Database + " SET " + setting + ";\n")
	}
	return server.Exec(ctx, "postgres", sql.String())
}

var outcome = regexp.MustCompile(`(?m)^ (?:All (\d+) tests passed|(\d+) of (\d+) tests failed)`)

// Run makes the database, runs the whole schedule and returns how many tests there were and how many gave other output
// than expected.
func (s Suite) Run(server *postgres.Server) (tests, failed int, err error) {
	return s.run(server, filepath.Join(s.dir, "parallel_schedule"), "--no-locale", "--encoding", "UTF8")
}

// RunStreamed runs the schedule in the database that CreateDatabase made, without what no program that reads and writes
// values as text could carry: text that isn't valid in its encoding (the test encoding makes it by a function in C), and
// one table of values that PostgreSQL prints and can't read (pg_node_tree).
func (s Suite) RunStreamed(server *postgres.Server) (tests, failed int, err error) {
	dir := filepath.Join(server.Home, "schedule")
	for _, d := range []string{dir, filepath.Join(server.Home, "regress"), filepath.Join(server.Home, "regress", "sql")} {
		if err := server.MakeDir(d); err != nil {
			return 0, 0, err
		}
	}
	schedule := filepath.Join(dir, "schedule")
	if err := rewrite(filepath.Join(s.dir, "parallel_schedule"), schedule, " encoding ", " "); err != nil {
		return 0, 0, err
	}
	// pg_regress takes a test from the folder of its output before that of the suite.
	err = rewrite(filepath.Join(s.dir, "sql", "create_table.sql"), filepath.Join(server.Home, "regress", "sql", "create_table.sql"),
		"CREATE TABLE as_select1 AS SELECT * FROM pg_class", "CREATE TABLE as_select1 AS SELECT oid, relname, relacl FROM pg_class")
	if err != nil {
		return 0, 0, err
	}
	return s.run(server, schedule, "--use-existing", "--dbname", Database)
}

// rewrite copies a file, with one text replaced that must be in it.
func rewrite(from, to, was, becomes string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if !strings.Contains(string(text), was) {
		return fmt.Errorf("%s doesn't hold %q", from, was)
	}
	return os.WriteFile(to, []byte(strings.ReplaceAll(string(text), was, becomes)), 0o644)
}

func (s Suite) run(server *postgres.Server, schedule string, args ...string) (tests, failed int, err error) {
	out := filepath.Join(server.Home, "regress")
	if _, err := os.Stat(out); err != nil {
		if err := server.MakeDir(out); err != nil {
			return 0, 0, err
		}
	}
	args = append([]string{"--inputdir", s.dir, "--outputdir", out, "--dlpath", filepath.Join(s.dir, "lib"), "--bindir", server.Dir,
		"--host", server.SocketDir, "--port", strconv.Itoa(server.Port), "--user", postgres.Superuser,
		"--schedule", schedule, "--max-concurrent-tests", "20"}, args...)
	said, err := server.ProgramOutput(runner, args...)
	m := outcome.FindStringSubmatch(said)
	if m == nil {
		return 0, 0, fmt.Errorf("pg_regress: %v: %s", err, last(said, 2000))
	}
	if m[1] != "" {
		tests, err = strconv.Atoi(m[1])
		return tests, 0, err
	}
	failed, _ = strconv.Atoi(m[2])
	tests, err = strconv.Atoi(m[3])
	return tests, failed, err
}

// Differences returns the beginning of what the tests' output has that wasn't expected.
func (s Suite) Differences(server *postgres.Server) string {
	diffs, err := os.ReadFile(filepath.Join(server.Home, "regress", "regression.diffs"))
	if err != nil {
		return err.Error()
	}
	return string(diffs[:min(len(diffs), 4000)])
}

func last(s string, n int) string { return strings.TrimSpace(s[max(0, len(s)-n):]) }
