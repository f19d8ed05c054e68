package regress

import (
	"bufio"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
)

// Dump is a database as pg_dump prints it, with the rows of each table in an order of their own.
type Dump struct {
	Schema    string
	Tables    map[string]Rows   // by the name that COPY gives
	Sequences map[string]string // arguments of setval by name
}

// Rows are a table's rows in the text form of COPY, sorted, and its columns.
type Rows struct {
	Columns string
	Lines   []string
}

// TakeDump runs pg_dump on a database. Large objects are left out.
func TakeDump(pgDump, dsn string) (*Dump, error) {
	schema, err := exec.Command(pgDump, "--dbname", dsn, "--schema-only", "--create").Output()
	if err != nil {
		return nil, dumpError(err)
	}
	d := &Dump{Schema: withoutNoise(string(schema)), Tables: map[string]Rows{}, Sequences: map[string]string{}}
	cmd := exec.Command(pgDump, "--dbname", dsn, "--data-only", "--no-blobs")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	if err := d.read(out); err != nil {
		return nil, err
	}
	return d, dumpError(cmd.Wait())
}

func dumpError(err error) error {
	if exit, ok := err.(*exec.ExitError); ok {
		return fmt.Errorf("pg_dump: %w: %s", err, exit.Stderr)
	}
	return err
}

// withoutNoise drops the lines that differ from dump to dump.
func withoutNoise(script string) string {
	var b strings.Builder
	for line := range strings.Lines(script) {
		if !strings.HasPrefix(line, `\restrict `) && !strings.HasPrefix(line, `\unrestrict `) {
			b.WriteString(line)
		}
	}
	return b.String()
}

// read reads a script of data: COPY blocks and settings of sequences.
func (d *Dump) read(script io.Reader) error {
	lines := bufio.NewReaderSize(script, 1<<20)
	table, in := "", false
	for {
		line, err := lines.ReadString('\n')
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		line = strings.TrimSuffix(line, "\n")
		switch copying, isCopy := strings.CutPrefix(line, "COPY "); {
		case in && line == `\.`:
			in = false
			slices.Sort(d.Tables[table].Lines)
		case in:
			rows := d.Tables[table]
			rows.Lines = append(rows.Lines, line)
			d.Tables[table] = rows
		case isCopy:
			name, columns, _ := strings.Cut(strings.TrimSuffix(copying, " FROM stdin;"), " (")
			table, in = strings.TrimSpace(name), true
			d.Tables[table] = Rows{Columns: columns}
		case strings.HasPrefix(line, "SELECT pg_catalog.setval("):
			arguments := strings.TrimSuffix(strings.TrimPrefix(line, "SELECT pg_catalog.setval("), ");")
			name, value, _ := strings.Cut(arguments, "', ")
			d.Sequences[strings.TrimPrefix(name, "'")] = value
		}
	}
	return nil
}

// DiffRows names the tables whose rows differ, with the first row that does. Those in except are passed over.
func (d *Dump) DiffRows(other *Dump, except map[string]bool) []string {
	var found []string
	for name, rows := range d.Tables {
		theirs, ok := other.Tables[name]
		switch {
		case except[name]:
		case !ok:
			found = append(found, name+": the other has no such table")
		case rows.Columns != theirs.Columns:
			found = append(found, fmt.Sprintf("%s: columns (%s, the other's (%s", name, rows.Columns, theirs.Columns))
		case !slices.Equal(rows.Lines, theirs.Lines):
			found = append(found, fmt.Sprintf("%s: %d rows, the other has %d; %s", name, len(rows.Lines), len(theirs.Lines), firstDifference(rows.Lines, theirs.Lines)))
		}
	}
	for name := range other.Tables {
		if _, ok := d.Tables[name]; !ok && !except[name] {
			found = append(found, name+": only the other has it")
		}
	}
	slices.Sort(found)
	return found
}

func firstDifference(a, b []string) string {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf("%.80q, the other's %.80q", a[i], b[i])
		}
	}
	if n := min(len(a), len(b)); n < len(a) {
		return fmt.Sprintf("only here: %.80q", a[n])
	}
	return fmt.Sprintf("only there: %.80q", b[len(a)])
}

// DiffSchema returns the objects, as pg_dump separates them, that only one of the schemas has, at most 40.
func (d *Dump) DiffSchema(other *Dump) []string {
	ours, theirs := objects(d.Schema), objects(other.Schema)
	var found []string
	for _, side := range []struct {
		sign     string
		has, not map[string]bool
	}{{"- ", ours, theirs}, {"+ ", theirs, ours}} {
		for o := range side.has {
			if !side.not[o] {
				found = append(found, side.sign+o)
			}
		}
	}
	slices.SortFunc(found, func(a, b string) int { return strings.Compare(a[2:], b[2:]) })
	if len(found) == 0 && d.Schema != other.Schema {
		return []string{"the same objects in another order"}
	}
	return found[:min(len(found), 40)]
}

// objects cuts a script at the comments that pg_dump puts above each object.
func objects(script string) map[string]bool {
	set := map[string]bool{}
	for part := range strings.SplitSeq(script, "\n--\n-- ") {
		set[strings.TrimSpace(part)] = true
	}
	return set
}
