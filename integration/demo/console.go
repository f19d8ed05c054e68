package main

import (
	"bytes"
	"fmt"
	"io"
	"net/url"
	"os"
	"strconv"
	"strings"

	"golang.org/x/term"
)

// console prints for people, in colours where they are wanted.
type console struct {
	out   io.Writer
	plain bool
	steps int
}

func newConsole(f *os.File) *console {
	_, noColor := os.LookupEnv("NO_COLOR") // https://no-color.org
	return &console{out: f, plain: noColor || !term.IsTerminal(int(f.Fd()))}
}

const (
	bold  = "1"
	dim   = "2"
	red   = "31"
	green = "32"
	cyan  = "36"
)

func (c *console) paint(style, s string) string {
	if c.plain {
		return s
	}
	return "\x1b[" + style + "m" + s + "\x1b[0m"
}

// step begins a numbered part.
func (c *console) step(format string, args ...any) {
	c.steps++
	fmt.Fprintf(c.out, "\n%s %s\n", c.paint(bold+";"+cyan, strconv.Itoa(c.steps)+"."), c.paint(bold, fmt.Sprintf(format, args...)))
}

func (c *console) say(format string, args ...any) {
	fmt.Fprintf(c.out, "   %s\n", fmt.Sprintf(format, args...))
}

func (c *console) bad(format string, args ...any) {
	fmt.Fprintf(c.out, "   %s\n", c.paint(red, fmt.Sprintf(format, args...)))
}

func (c *console) good(format string, args ...any) {
	fmt.Fprintf(c.out, "\n%s\n", c.paint(bold+";"+green, fmt.Sprintf(format, args...)))
}

// sql prints a statement and a remark on it.
func (c *console) sql(statement, remark string) {
	fmt.Fprintf(c.out, "   %s %s %s\n", c.paint(dim, "shop=#"), c.paint(bold, statement), c.paint(dim, remark))
}

// command prints a command line that a person could type, with paths and URLs cut to what tells them apart.
func (c *console) command(program string, args ...string) {
	words := []string{program}
	for _, arg := range args {
		words = append(words, shown(arg))
	}
	fmt.Fprintf(c.out, "   %s %s\n", c.paint(dim, "$"), c.paint(bold, strings.Join(words, " ")))
}

// shown shortens a DSN or a path in the temporary folder, and quotes what a shell would split.
func shown(arg string) string {
	if u, err := url.Parse(arg); err == nil && u.Scheme == "postgres" {
		u.RawQuery = ""
		return u.String()
	}
	if dir := os.TempDir(); strings.HasPrefix(arg, dir) {
		return "…" + arg[strings.LastIndexByte(arg, '/'):]
	}
	if strings.ContainsAny(arg, " *'\"") {
		return "'" + arg + "'"
	}
	return arg
}

// row prints a line of the comparison.
func (c *console) row(name, before, damaged, restored, verdict string) {
	style := green
	switch verdict {
	case "equal":
	case "DIFFERENT":
		style = red
	default:
		style = dim
	}
	fmt.Fprintf(c.out, "   %-18s %12s %12s %12s   %s\n", name, before, damaged, restored, c.paint(style, verdict))
}

// indented is a writer for what a program prints.
func (c *console) indented() io.Writer { return &indenter{out: c.out} }

// indenter sets each line in from the left. A line that has not ended is printed with the next write.
type indenter struct {
	out  io.Writer
	rest []byte
}

func (w *indenter) Write(p []byte) (int, error) {
	w.rest = append(w.rest, p...)
	for {
		i := bytes.IndexByte(w.rest, '\n')
		if i < 0 {
			return len(p), nil
		}
		if _, err := fmt.Fprintf(w.out, "     %s\n", w.rest[:i]); err != nil {
			return 0, err
		}
		w.rest = w.rest[i+1:]
	}
}

// count prints a number with a comma after each three digits.
func count(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// rows is the number of rows in a hash of package workload.
func rows(hash string) string {
	n, _, _ := strings.Cut(hash, ":")
	v, err := strconv.ParseInt(n, 10, 64)
	if err != nil {
		return "-"
	}
	return count(v)
}
