package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"tidemark/internal/fault"
)

// File is a configuration file that was read and whose keys are all known.
type File struct {
	path   string
	values map[string]setting
}

type setting struct {
	value any // string or []any of strings
	line  int
}

// Load reads a YAML file whose keys are flag names without dashes in front; nested keys are joined
// with "-", so that "snapshot: {schedule: ...}" sets snapshot-schedule. A key that is neither in known
// nor in Keys is an error, as are a repeated key, a value without content and anything but scalars
// and lists of scalars as values. All errors carry fault.Usage and name the file and the line.
func Load(path string, known []string) (*File, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, openError(path, err)
	}
	return parse(path, text, known)
}

// openError keeps the path out of the cause, which the message names already.
func openError(path string, err error) error {
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		err = pathErr.Err
	}
	return fault.Wrap(err, fault.Usage, "check the path given with --config or TIDEMARK_CONFIG", "can't read %s", path)
}

func parse(path string, text []byte, known []string) (*File, error) {
	doc, err := parser.ParseBytes(text, 0)
	if err != nil {
		return nil, syntaxError(path, err)
	}
	f := &File{path: path, values: map[string]setting{}}
	if len(doc.Docs) > 1 {
		return nil, f.fail(lineOf(doc.Docs[1]), "a second document: one file holds one set of settings")
	}
	for _, d := range doc.Docs {
		if d.Body == nil || d.Body.Type() == ast.NullType || d.Body.Type() == ast.CommentType {
			continue
		}
		if err := f.walk("", d.Body, append(slices.Clone(known), Keys()...)); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// lineOf is where a document begins; it may be empty.
func lineOf(d *ast.DocumentNode) int {
	switch {
	case d.Body != nil && d.Body.GetToken() != nil && d.Body.GetToken().Position != nil:
		return d.Body.GetToken().Position.Line
	case d.Start != nil && d.Start.Position != nil:
		return d.Start.Position.Line
	}
	return 1
}

// Lookup returns the value of key: a string, or a []any of strings for a list. A nil File has no keys.
func (f *File) Lookup(key string) (any, bool) {
	if f == nil {
		return nil, false
	}
	s, ok := f.values[key]
	return s.value, ok
}

// Where names the file and line that set key, for messages.
func (f *File) Where(key string) string { return fmt.Sprintf("%s:%d", f.path, f.values[key].line) }

// walk takes in one node: a mapping adds to the prefix, anything else is prefix's value.
func (f *File) walk(prefix string, node ast.Node, known []string) error {
	mapping, ok := node.(*ast.MappingNode)
	if !ok {
		return f.set(prefix, node)
	}
	for _, pair := range mapping.Values {
		key := pair.Key.String()
		if s, ok := pair.Key.(*ast.StringNode); ok {
			key = s.Value
		}
		if prefix != "" {
			key = prefix + "-" + key
		}
		if _, nested := pair.Value.(*ast.MappingNode); nested && !isPrefix(key, known) {
			return f.unknown(key, line(pair.Key), known)
		}
		if err := f.walkPair(key, pair, known); err != nil {
			return err
		}
	}
	return nil
}

func (f *File) walkPair(key string, pair *ast.MappingValueNode, known []string) error {
	if _, nested := pair.Value.(*ast.MappingNode); nested {
		return f.walk(key, pair.Value, known)
	}
	at := line(pair.Key)
	if !slices.Contains(known, key) {
		return f.unknown(key, at, known)
	}
	if earlier, ok := f.values[key]; ok {
		return f.fail(at, "%s is set a second time (first in line %d)", key, earlier.line)
	}
	if err := f.set(key, pair.Value); err != nil {
		return err
	}
	s := f.values[key]
	s.line = at
	f.values[key] = s
	return nil
}

// set records a scalar or a list of scalars.
func (f *File) set(key string, node ast.Node) error {
	if key == "" {
		return f.fail(line(node), "expected keys and values, such as \"archive: file:///var/lib/tidemark\"")
	}
	list, ok := node.(*ast.SequenceNode)
	if !ok {
		v, err := f.scalar(key, node)
		if err == nil {
			f.values[key] = setting{value: v}
		}
		return err
	}
	values := make([]any, 0, len(list.Values))
	for _, n := range list.Values {
		v, err := f.scalar(key, n)
		if err != nil {
			return err
		}
		values = append(values, v)
	}
	f.values[key] = setting{value: values}
	return nil
}

func (f *File) scalar(key string, node ast.Node) (string, error) {
	switch n := node.(type) {
	case *ast.StringNode:
		return n.Value, nil
	case *ast.LiteralNode:
		return n.Value.Value, nil
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return node.GetToken().Value, nil
	case *ast.NullNode:
		return "", f.fail(line(node), "%s has no value", key)
	}
	return "", f.fail(line(node), "%s must be a single value or a list of values", key)
}

func line(node ast.Node) int {
	if t := node.GetToken(); t != nil && t.Position != nil {
		return t.Position.Line
	}
	return 1
}

// isPrefix reports whether some known key lies below key.
func isPrefix(key string, known []string) bool {
	return slices.ContainsFunc(known, func(k string) bool { return strings.HasPrefix(k, key+"-") })
}

func (f *File) fail(line int, format string, args ...any) error {
	return fault.New(fault.Usage, "correct the file, or leave the setting out", "%s:%d: %s", f.path, line, fmt.Sprintf(format, args...))
}

func (f *File) unknown(key string, line int, known []string) error {
	hint := "every key is a flag's name: see --help of the commands"
	if near := Nearest(key, known); near != "" {
		hint = fmt.Sprintf("did you mean %s?", near)
	}
	return fault.New(fault.Usage, hint, "%s:%d: unknown key %q", f.path, line, key)
}

func syntaxError(path string, err error) error {
	hint := "the file must be valid YAML"
	if y, ok := errors.AsType[yaml.Error](err); ok {
		return fault.New(fault.Usage, hint, "%s:%d: %s", path, y.GetToken().Position.Line, y.GetMessage())
	}
	return fault.New(fault.Usage, hint, "%s: %s", path, strings.SplitN(err.Error(), "\n", 2)[0])
}
