package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
)

// version is set by the linker in releases (-X tidemark/internal/cli.version=v1.2.3).
var version = ""

// Version returns the version of this build: the release's, else what the Go toolchain recorded of
// the source, with the Go version and the platform.
func Version() string {
	v := version
	if info, ok := debug.ReadBuildInfo(); ok && v == "" {
		v = sourceVersion(info)
	}
	return fmt.Sprintf("%s (%s, %s/%s)", v, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

func sourceVersion(info *debug.BuildInfo) string {
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	v := "devel"
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			v += "-" + s.Value[:min(12, len(s.Value))]
		case s.Key == "vcs.modified" && s.Value == "true" && !strings.HasSuffix(v, "-modified"):
			v += "-modified"
		}
	}
	return v
}
