package cli

import (
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"tidemark/internal/config"
)

// resolver gives kong the values of flags that the command line left out: from the environment
// variable TIDEMARK_<FLAG>, else from the configuration file. Flags come before both, defaults after.
type resolver struct {
	getenv func(string) (string, bool)
	known  []string

	loaded bool
	file   *config.File
	origin map[string]string // where a flag's value came from, if not from the command line
}

var _ kong.Resolver = (*resolver)(nil)

// Validate implements kong.Resolver; the file's keys are checked when it is loaded.
func (r *resolver) Validate(*kong.Application) error { return nil }

// Resolve implements kong.Resolver.
func (r *resolver) Resolve(ctx *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	switch flag.Name {
	case "help", "version", "config":
		return nil, nil
	}
	if err := r.load(ctx); err != nil {
		return nil, err
	}
	if value, ok := r.env(flag.Name); ok || r.set(flag) {
		r.origin[flag.Name] = envName(flag.Name)
		return value, nil
	}
	if value, ok := r.file.Lookup(flag.Name); ok {
		r.origin[flag.Name] = r.file.Where(flag.Name)
		return value, nil
	}
	return nil, nil
}

// load reads the file that --config or TIDEMARK_CONFIG names, once.
func (r *resolver) load(ctx *kong.Context) error {
	if r.loaded {
		return nil
	}
	r.loaded, r.origin = true, map[string]string{}
	path, _ := r.env("config")
	for _, flag := range ctx.Flags() {
		if given, ok := ctx.FlagValue(flag).(string); ok && flag.Name == "config" && given != "" {
			path = given
		}
	}
	if path == "" {
		return nil
	}
	file, err := config.Load(path, r.known)
	r.file = file
	return err
}

// env returns the value of a flag's environment variable; an empty one counts as not set, but for a flag that tells the two apart (see set).
func (r *resolver) env(flag string) (string, bool) {
	value, ok := r.getenv(envName(flag))
	return value, ok && value != ""
}

// set reports whether a flag's variable is there, for a flag that tells an empty value from none.
func (r *resolver) set(flag *kong.Flag) bool {
	_, ok := r.getenv(envName(flag.Name))
	return ok && flag.Target.Kind() == reflect.Pointer
}

func envName(flag string) string {
	return "TIDEMARK_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

var flagName = regexp.MustCompile(`--([a-z][a-z-]*)`)

// locate adds to a message about a flag where its value came from.
func (r *resolver) locate(message string) string {
	if m := flagName.FindStringSubmatch(message); m != nil && r.origin[m[1]] != "" {
		return r.origin[m[1]] + ": " + message
	}
	return message
}

// Flags returns the names of all flags of a grammar's commands that can be set in a file, sorted.
func Flags(grammar Grammar) []string {
	names := map[string]bool{}
	if parser, err := kong.New(grammar); err == nil {
		collect(parser.Model.Node, names)
	}
	return slices.Sorted(maps.Keys(names))
}

func collect(node *kong.Node, names map[string]bool) {
	for _, f := range node.Flags {
		switch f.Name {
		case "help", "version", "config":
		default:
			names[f.Name] = true
		}
	}
	for _, child := range node.Children {
		collect(child, names)
	}
}

// Unlisted returns a grammar's flags that config.Keys doesn't list, which the other binary would then
// refuse in a shared file. Each binary's tests want it empty.
func Unlisted(grammar Grammar) []string {
	return slices.DeleteFunc(Flags(grammar), func(name string) bool { return slices.Contains(config.Keys(), name) })
}
