// Package debian fetches packages and sources for tests with apt-get, from the mirror that the machine is
// set up with, into folders of its own: nothing is installed, and the machine's package lists stay as they are.
package debian

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// ErrNoApt says that this machine isn't one where apt-get fetches packages.
var ErrNoApt = errors.New("there is no apt-get on this machine")

// Unpack fetches packages of a release ("trixie", "sid"; "" for the machine's own) with all that they depend
// on and unpacks them below root, which it makes. No script of a package is run.
func Unpack(root, release string, packages ...string) error {
	a, err := open("deb", release)
	if err != nil {
		return err
	}
	defer a.close()
	// An empty status file: nothing is installed, so that each dependency is fetched.
	if err := a.get(append([]string{"install", "--yes", "--download-only"}, packages...)...); err != nil {
		return err
	}
	archives, _ := filepath.Glob(filepath.Join(a.dir, "cache", "archives", "*.deb"))
	return a.unpack(root, archives)
}

// UnpackAlone is Unpack of the machine's own release without dependencies.
func UnpackAlone(root string, packages ...string) error {
	a, err := open("deb", "")
	if err != nil {
		return err
	}
	defer a.close()
	if err := a.get(append([]string{"download"}, packages...)...); err != nil {
		return err
	}
	archives, _ := filepath.Glob(filepath.Join(a.dir, "*.deb"))
	return a.unpack(root, archives)
}

// Source fetches the source package of a version ("15.18-0+deb12u1") and unpacks the upstream archive in it
// into dir, which it makes; the folder that the archive begins with is left out. Debian's patches aren't applied.
func Source(dir, name, version string) error {
	a, err := open("deb-src", "")
	if err != nil {
		return err
	}
	defer a.close()
	if err := a.get("source", "--download-only", name+"="+version); err != nil {
		return err
	}
	archives, _ := filepath.Glob(filepath.Join(a.dir, "*.orig.tar.*"))
	archives = slices.DeleteFunc(archives, func(f string) bool { return strings.HasSuffix(f, ".asc") })
	if len(archives) != 1 {
		return fmt.Errorf("the source package %s has %d upstream archives", name, len(archives))
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return run(exec.Command("tar", "--no-same-owner", "--strip-components=1", "-C", dir, "-xf", archives[0]))
}

// Installed returns the version of a package that is installed on this machine, "" if it isn't.
func Installed(name string) string {
	out, err := exec.Command("dpkg-query", "--show", "--showformat=${source:Version}", name).Output()
	if err != nil {
		return ""
	}
	return string(out)
}

// apt is apt-get with lists, cache and status in a temporary folder.
type apt struct{ dir string }

// open sets apt-get up for the machine's repositories, or for their counterpart in another release.
func open(kind, release string) (*apt, error) {
	if _, err := exec.LookPath("apt-get"); err != nil {
		return nil, ErrNoApt
	}
	lines, err := repositories(kind, release)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "tidemark-apt-")
	if err != nil {
		return nil, err
	}
	a := &apt{dir: dir}
	if err := a.prepare(lines); err != nil {
		a.close()
		return nil, err
	}
	return a, nil
}

func (a *apt) close() { os.RemoveAll(a.dir) }

func (a *apt) prepare(lines []string) error {
	for _, sub := range []string{"lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(a.dir, sub), 0o755); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(a.dir, "sources.list"), []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(a.dir, "status"), nil, 0o644); err != nil {
		return err
	}
	return a.get("update")
}

// get runs apt-get in the folder.
func (a *apt) get(args ...string) error {
	options := []string{"-q"}
	for _, o := range []string{
		"Dir::Etc::sourcelist=" + filepath.Join(a.dir, "sources.list"), "Dir::Etc::sourceparts=/dev/null",
		"Dir::State::lists=" + filepath.Join(a.dir, "lists"), "Dir::State::status=" + filepath.Join(a.dir, "status"),
		"Dir::Cache=" + filepath.Join(a.dir, "cache"),
		"APT::Sandbox::User=", "APT::Install-Recommends=false", "Acquire::Languages=none", "Acquire::Retries=3",
	} {
		options = append(options, "-o", o)
	}
	cmd := exec.Command("apt-get", append(options, args...)...)
	cmd.Dir = a.dir
	return run(cmd)
}

func (a *apt) unpack(root string, archives []string) error {
	if len(archives) == 0 {
		return errors.New("apt-get left no package")
	}
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	for _, archive := range archives {
		if err := run(exec.Command("dpkg-deb", "--extract", archive, root)); err != nil {
			return err
		}
	}
	return nil
}

// repositories lists the machine's own, as lines of a sources.list. In another release only those that are named as the
// machine's release is have a counterpart: updates and security fixes go into that same place there.
func repositories(kind, release string) ([]string, error) {
	own, err := codename()
	if err != nil {
		return nil, err
	}
	out, err := exec.Command("apt-get", "indextargets", "--format", "$(CREATED_BY) $(REPO_URI) $(RELEASE) $(COMPONENT)").Output()
	if err != nil {
		return nil, fmt.Errorf("apt-get indextargets: %w", err)
	}
	var lines []string
	for scan := bufio.NewScanner(bytes.NewReader(out)); scan.Scan(); {
		f := strings.Fields(scan.Text())
		if len(f) != 4 || f[0] != "Packages" {
			continue
		}
		switch {
		case release == "":
			lines = append(lines, strings.Join([]string{kind, f[1], f[2], f[3]}, " "))
		case f[2] == own:
			lines = append(lines, strings.Join([]string{kind, f[1], release, f[3]}, " "))
		}
	}
	slices.Sort(lines)
	if lines = slices.Compact(lines); len(lines) == 0 {
		return nil, fmt.Errorf("apt-get knows no repository of %s", own)
	}
	return lines, nil
}

// codename is the release of this machine, if it is Debian's.
func codename() (string, error) {
	file, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return "", err
	}
	facts := map[string]string{}
	for line := range strings.Lines(string(file)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		facts[name] = strings.Trim(value, `"'`)
	}
	if facts["ID"] != "debian" || facts["VERSION_CODENAME"] == "" {
		return "", fmt.Errorf("%w of Debian: it is %s", ErrNoApt, facts["PRETTY_NAME"])
	}
	return facts["VERSION_CODENAME"], nil
}

func run(cmd *exec.Cmd) error {
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", filepath.Base(cmd.Path), err, lastLines(out))
	}
	return nil
}

// lastLines keeps what says why.
func lastLines(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], "; ")
}
