package postgres

import (
	"errors"
	"os"
	"path/filepath"
)

// CopyDataDir copies the stopped server's data folder to a folder beside it and returns its path.
func (s *Server) CopyDataDir(name string) (string, error) {
	if s.Running() {
		return "", errors.New("stop the server before its data folder is copied")
	}
	to := filepath.Join(s.Home, name)
	return to, copyTree(s.DataDir, to)
}

// ReplaceDataDir puts a copy of a folder made by CopyDataDir or BaseBackup in place of the stopped
// server's data folder, as when a volume is rolled back to an older state.
func (s *Server) ReplaceDataDir(from string) error {
	if s.Running() {
		return errors.New("stop the server before its data folder is replaced")
	}
	if err := os.RemoveAll(s.DataDir); err != nil {
		return err
	}
	if err := copyTree(from, s.DataDir); err != nil {
		return err
	}
	return s.takeOver()
}

// BaseBackup takes a physical backup of the running server into a folder beside its data folder and
// returns its path. The backup holds the WAL that it needs to be consistent.
func (s *Server) BaseBackup(name string, args ...string) (string, error) {
	to := filepath.Join(s.Home, name)
	args = append([]string{"--dbname", s.SocketDSN("postgres"), "--pgdata", to,
		"--checkpoint", "fast", "--no-sync", "--wal-method", "stream"}, args...)
	return to, s.RunProgram("pg_basebackup", args...)
}

// CopyTree returns a Populate function that fills a data folder from another one.
func CopyTree(from string) func(dataDir string) error {
	return func(dataDir string) error {
		if err := os.Remove(dataDir); err != nil {
			return err
		}
		return copyTree(from, dataDir)
	}
}

// copyTree leaves the copying to cp, which keeps modes and owners.
func copyTree(from, to string) error { return runIn(filepath.Dir(to), "cp", "-Rp", from, to) }

// takeOver gives a data folder that came from elsewhere to this server.
func (s *Server) takeOver() error {
	if err := os.Remove(filepath.Join(s.DataDir, "postmaster.pid")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.Chmod(s.DataDir, 0o700); err != nil {
		return err
	}
	return s.account.own(s.DataDir)
}

// MakeDir makes a folder that the server's user owns, for archived WAL for instance.
func (s *Server) MakeDir(path string) error {
	if err := os.Mkdir(path, 0o755); err != nil {
		return err
	}
	return s.account.own(path)
}
