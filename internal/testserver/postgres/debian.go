package postgres

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"tidemark/internal/testserver/debian"
)

// debianReleases are the releases that carry a major version with all its programs and extensions.
var debianReleases = map[int]string{17: "trixie", 18: "sid"}

// fromDebian fetches a major version from another release of Debian, with the C library that it needs, into the
// cache, and returns what an earlier call fetched without asking the network again.
func fromDebian(major int) (Binaries, error) {
	release, ok := debianReleases[major]
	if !ok {
		return Binaries{}, fmt.Errorf("no release of Debian with PostgreSQL %d is known", major)
	}
	name := "postgresql-" + strconv.Itoa(major)
	bin := filepath.Join("usr", "lib", "postgresql", strconv.Itoa(major), "bin")
	home, err := Cached("debian-"+name, func(dir string) error {
		if err := debian.Unpack(dir, release, name, "postgresql-client-"+strconv.Itoa(major)); err != nil {
			return err
		}
		return os.Rename(filepath.Join(dir, bin), filepath.Join(dir, bin)+".real")
	})
	if err != nil {
		return Binaries{}, fmt.Errorf("fetching PostgreSQL %d of Debian %s: %w", major, release, err)
	}
	// The scripts name the folder that they are in, which is only known once it is in its place.
	if err := wrapPrograms(home, filepath.Join(home, bin)); err != nil {
		return Binaries{}, err
	}
	b, ok := inspect(filepath.Join(home, bin))
	if !ok {
		return Binaries{}, fmt.Errorf("the PostgreSQL %d of Debian %s in %s does not run on this machine", major, release, home)
	}
	return b, nil
}

// wrapPrograms puts a script in bin for each program in bin.real, which runs it with the loader and the libraries
// under root. PostgreSQL finds its other files from the script's place, and its programs each other.
func wrapPrograms(root, bin string) error {
	loaders, _ := filepath.Glob(filepath.Join(root, "usr", "lib*", "ld-linux-*.so.*"))
	libraries, _ := filepath.Glob(filepath.Join(root, "usr", "lib", "*-linux-gnu"))
	if len(loaders) == 0 || len(libraries) == 0 {
		return fmt.Errorf("%s holds no C library", root)
	}
	programs, err := os.ReadDir(bin + ".real")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return err
	}
	for _, p := range programs {
		wrapper := filepath.Join(bin, p.Name())
		if _, err := os.Stat(wrapper); err == nil {
			continue
		}
		script := fmt.Sprintf("#!/bin/sh\nexec '%s' --argv0 '%s' --library-path '%s' '%s' \"$@\"\n",
			loaders[0], wrapper, libraries[0], filepath.Join(bin+".real", p.Name()))
		// Renamed into place: another process may be about to run it.
		half := fmt.Sprintf("%s.%d", wrapper, os.Getpid())
		if err := os.WriteFile(half, []byte(script), 0o755); err != nil {
			return err
		}
		if err := os.Rename(half, wrapper); err != nil {
			return err
		}
	}
	return nil
}
