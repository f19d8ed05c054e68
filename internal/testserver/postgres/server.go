// Package postgres runs throwaway PostgreSQL servers for tests and for the demo: own data folder, own
// port on the loopback address, own Unix socket, logical WAL, no fsync. They end with the test.
package postgres

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"
)

// Superuser is the name of the role that initdb makes.
const Superuser = "postgres"

// TB is what this package needs of a testing.TB.
type TB interface {
	Helper()
	Cleanup(func())
	Logf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Options say what server is wanted. The zero value is the newest installed version with logical WAL.
type Options struct {
	Version    string            // major version; "" for the newest that is installed
	Settings   map[string]string // postgresql.conf, over DefaultSettings
	InitdbArgs []string          // further arguments of initdb; a later --encoding or --locale wins
	Password   string            // when set, TCP connections must give it (scram-sha-256)
	Env        []string          // added to the server's environment
	// Populate makes the data folder instead of initdb, for instance from a base backup. The folder
	// exists and is empty; its files are given to the server's user afterwards.
	Populate func(dataDir string) error
}

// DefaultSettings are the settings of every server of this package: small, logical, and as fast as
// only a server whose data nobody will miss can be.
var DefaultSettings = map[string]string{
	"wal_level":                 "logical",
	"fsync":                     "off",
	"full_page_writes":          "off",
	"shared_buffers":            "32MB",
	"max_connections":           "60",
	"max_wal_senders":           "20",
	"max_replication_slots":     "20",
	"max_prepared_transactions": "20",
	"max_wal_size":              "1GB",
	"log_min_messages":          "warning",
	"log_line_prefix":           "%m [%p] %q%a ",
}

// Server is one server. Its methods are not safe for concurrent use, except DSN and SocketDSN.
type Server struct {
	Binaries
	Host      string // always 127.0.0.1
	Port      int
	Password  string
	Home      string // folder of everything below; removed by Close
	DataDir   string
	SocketDir string
	LogFile   string

	env     []string
	account account
	process *process // nil while stopped
}

// Start runs a server until the test ends. It fails the test if it can't.
func Start(tb TB, o Options) *Server {
	tb.Helper()
	s, err := Launch(o)
	if err != nil {
		tb.Fatalf("starting PostgreSQL: %v", err)
		return nil
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Logf("stopping PostgreSQL: %v", err)
		}
	})
	return s
}

// Launch makes and runs a server. The caller ends it with Close.
func Launch(o Options) (*Server, error) {
	binaries, err := FindBinaries(o.Version)
	if err != nil {
		return nil, err
	}
	s := &Server{Binaries: binaries, Host: "127.0.0.1", Password: o.Password, env: o.Env}
	if err := s.create(o); err != nil {
		os.RemoveAll(s.Home)
		return nil, err
	}
	// Between finding a free port and binding it another process may take it: try others.
	for attempt := 0; ; attempt++ {
		if s.Port, err = freePort(); err != nil {
			break
		}
		if err = s.Run(); err == nil {
			return s, nil
		}
		if attempt == 4 || !strings.Contains(err.Error(), "could not bind") {
			break
		}
	}
	os.RemoveAll(s.Home)
	return nil, err
}

// Close stops the server at once and removes its folders.
func (s *Server) Close() error {
	err := s.Stop(Immediate)
	if rerr := os.RemoveAll(s.Home); err == nil {
		err = rerr
	}
	return err
}

// DSN returns a URL for a database over TCP, as the superuser.
func (s *Server) DSN(database string) string { return s.DSNFor(Superuser, s.Password, database) }

// DSNFor returns a URL for a database over TCP, as a role with a password (may be empty).
func (s *Server) DSNFor(role, password, database string) string {
	u := url.URL{
		Scheme: "postgres", Host: net.JoinHostPort(s.Host, strconv.Itoa(s.Port)),
		Path: "/" + database, RawQuery: "sslmode=disable", User: url.User(role),
	}
	if password != "" {
		u.User = url.UserPassword(role, password)
	}
	return u.String()
}

// SocketDSN returns a URL for a database over the Unix socket, as the superuser, without a password.
func (s *Server) SocketDSN(database string) string {
	q := url.Values{"host": {s.SocketDir}, "port": {strconv.Itoa(s.Port)}, "user": {Superuser}}
	return "postgres:///" + url.PathEscape(database) + "?" + q.Encode()
}

// create makes the folders, the data folder and its configuration.
func (s *Server) create(o Options) (err error) {
	if s.account, err = serverAccount(); err != nil {
		return err
	}
	// Not under a test's own temporary folder: that one's parents are closed to other users, and its
	// path can be too long for a Unix socket (107 bytes).
	if s.Home, err = os.MkdirTemp("", "tidemark-pg-"); err != nil {
		return err
	}
	s.DataDir = filepath.Join(s.Home, "data")
	s.SocketDir = filepath.Join(s.Home, "socket")
	s.LogFile = filepath.Join(s.Home, "server.log")
	for _, dir := range []string{s.DataDir, s.SocketDir} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
	}
	if err := os.Chmod(s.SocketDir, 0o755); err != nil {
		return err
	}
	if err := os.Chmod(s.Home, 0o755); err != nil {
		return err
	}
	if err := s.account.own(s.Home); err != nil {
		return err
	}
	if o.Populate == nil {
		err = s.initdb(o)
	} else if err = o.Populate(s.DataDir); err == nil {
		err = s.takeOver()
	}
	if err != nil {
		return err
	}
	settings := map[string]string{}
	for _, m := range []map[string]string{DefaultSettings, o.Settings} {
		for k, v := range m {
			settings[k] = v
		}
	}
	return s.Configure(settings)
}

func (s *Server) initdb(o Options) error {
	args := []string{"--pgdata", s.DataDir, "--username", Superuser, "--no-sync",
		"--encoding", "UTF8", "--locale", "C", "--auth-local", "trust", "--auth-host", "trust"}
	if o.Password != "" {
		file := filepath.Join(s.Home, "password")
		if err := os.WriteFile(file, []byte(o.Password), 0o600); err != nil {
			return err
		}
		defer os.Remove(file)
		if err := s.account.own(file); err != nil {
			return err
		}
		args = append(args, "--auth-host", "scram-sha-256", "--pwfile", file)
	}
	return s.RunProgram("initdb", append(args, o.InitdbArgs...)...)
}

// RunProgram runs a program of the server's version as the server's user and waits for it.
func (s *Server) RunProgram(program string, args ...string) error {
	if out, err := s.ProgramOutput(program, args...); err != nil {
		return fmt.Errorf("%s: %w: %s", program, err, strings.TrimSpace(out))
	}
	return nil
}

// ProgramOutput is RunProgram that returns what the program said, on both its outputs.
func (s *Server) ProgramOutput(program string, args ...string) (string, error) {
	out, err := s.account.command(s.Home, s.Path(program), args...).CombinedOutput()
	return string(out), err
}

// Configure appends settings to postgresql.conf; they take effect at the next start or reload.
func (s *Server) Configure(settings map[string]string) error {
	var b strings.Builder
	names := make([]string, 0, len(settings))
	for name := range settings {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		fmt.Fprintf(&b, "%s = '%s'\n", name, strings.ReplaceAll(settings[name], "'", "''"))
	}
	f, err := os.OpenFile(filepath.Join(s.DataDir, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(b.String())
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// ready waits until the server takes connections, or says why it ended instead.
func (s *Server) ready(ctx context.Context) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-s.process.done:
			tail := s.LogTail(2000)
			s.process = nil
			// A killed server's log ends with this pair; one that met it and then started has gone on writing.
			if i := strings.LastIndex(tail, "pre-existing shared memory block"); i >= 0 && !strings.Contains(tail[i:], "LOG:") {
				return fmt.Errorf("%w: %s", errOrphans, tail)
			}
			return fmt.Errorf("the server ended at its start: %s", tail)
		case <-ctx.Done():
			return fmt.Errorf("the server is not ready: %w: %s", ctx.Err(), s.LogTail(2000))
		case <-tick.C:
		}
		conn, err := s.connect(ctx, "postgres")
		if err == nil {
			return conn.Close(ctx)
		}
	}
}

// LogTail returns the last n bytes of the server's log.
func (s *Server) LogTail(n int) string {
	b, err := os.ReadFile(s.LogFile)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(b[max(0, len(b)-n):]))
}

func freePort() (int, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
