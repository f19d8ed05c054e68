package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"tidemark/internal/cli"
	"tidemark/internal/fault"
	"tidemark/pitr"
	"tidemark/segment"
)

type logCmd struct {
	cli.Output
	Since   string       `help:"Leave out commits before this moment (RFC 3339 with a zone, or now-2h)." placeholder:"TIME"`
	Until   string       `help:"Leave out commits after this moment." placeholder:"TIME"`
	Table   cli.Patterns `help:"Only transactions that changed tables matching this pattern, such as public.orders or *.events_* (repeatable)." placeholder:"PATTERN"`
	Op      []string     `help:"Only these operations: insert, update, delete, truncate, ddl (repeatable)." placeholder:"OP"`
	MinRows int64        `help:"Only transactions that changed at least this many rows (of those tables, by those operations)." placeholder:"N"`
	History uint32       `help:"Only this history." placeholder:"N"`
}

// Help is shown by log --help.
func (*logCmd) Help() string {
	return `Lists transactions from the segments' indexes, without reading rows. Each line has the flags that restore the
database to just before that transaction. With -o json each line is an object of its own.

Examples:

    restorer log --since now-2h --op delete --min-rows 1000     who deleted all that?
    restorer log --table public.orders --since now-1d
    restorer log --op ddl --since now-1d                        schema changes, with their statements
    restorer log -o json | jq 'select(.rows > 1000)'`
}

var operations = map[string]segment.Op{
	"insert": segment.OpInsert, "update": segment.OpUpdate, "delete": segment.OpDelete, "truncate": segment.OpTruncate,
}

// query turns the flags into what pitr asks for.
func (c *logCmd) query(env *cli.Env) (q pitr.LogQuery, err error) {
	q = pitr.LogQuery{History: c.History, Tables: c.Table, MinRows: c.MinRows}
	if c.Since != "" {
		if q.Since, err = pitr.ParseTime("--since", c.Since, env.Now(), time.Local); err != nil {
			return q, err
		}
	}
	if c.Until != "" {
		if q.Until, err = pitr.ParseTime("--until", c.Until, env.Now(), time.Local); err != nil {
			return q, err
		}
	}
	for _, name := range c.Op {
		if strings.EqualFold(name, "ddl") {
			q.Schema = true
			continue
		}
		op, ok := operations[strings.ToLower(name)]
		if !ok {
			return q, fault.New(fault.Usage, "insert, update, delete, truncate and ddl are possible", "--op: unknown operation %q", name)
		}
		q.Ops = append(q.Ops, op)
	}
	return q, nil
}

// Run prints the transactions as they are found.
func (c *logCmd) Run(ctx context.Context, env *cli.Env) error {
	query, err := c.query(env)
	if err != nil {
		return err
	}
	archive, err := openArchive(ctx, env)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(env.Stdout)
	print := printTransaction
	if c.JSON() {
		encoder := json.NewEncoder(out)
		encoder.SetEscapeHTML(false)
		print = func(_ *bufio.Writer, line pitr.LogLine) error { return encoder.Encode(line) }
	}
	found := 0
	var last pitr.LogLine
	for line, err := range pitr.Log(ctx, archive, query) {
		if err != nil {
			// What was found before is worth showing.
			_ = out.Flush()
			return err
		}
		if found == 0 && !c.JSON() {
			fmt.Fprintf(out, logFormat, "time", "xid", "rows", "restore to just before it", "changes")
		}
		if err := print(out, line); err != nil {
			return err
		}
		found, last = found+1, line
	}
	if err := out.Flush(); err != nil {
		return err
	}
	switch {
	case found == 0:
		env.Note("no archived transaction matches; restorer list shows what is archived")
	case found == 1 && len(last.Before) > 0:
		env.Next("restorer plan %s", strings.Join(last.Before, " "))
	}
	return nil
}

const logFormat = "%-27s  %10s  %12s  %-36s  %s\n"

func printTransaction(w *bufio.Writer, line pitr.LogLine) error {
	before := strings.Join(line.Before, " ")
	if before == "" {
		before = "(not covered) LSN " + line.LSN.String()
	}
	changes := line.Changes()
	if line.Foreign {
		changes += " (from another node, with its time)"
	}
	_, err := fmt.Fprintf(w, logFormat, line.Time, fmt.Sprint(line.XID), cli.Count(line.Rows), before, changes)
	for _, c := range line.Schema {
		if err == nil {
			_, err = fmt.Fprintf(w, "%-27s  %s\n", "", describeSchemaChange(c))
		}
	}
	return err
}

const shownStatement = 200

// describeSchemaChange puts a schema change on one line.
func describeSchemaChange(c pitr.SchemaChange) string {
	statement := []rune(strings.Join(strings.Fields(c.Statement), " "))
	s := c.Tag
	if c.Object != "" {
		s += " on " + c.Object
	}
	if len(statement) > shownStatement {
		statement = append(statement[:shownStatement], '…')
	}
	if len(statement) > 0 {
		s += ": " + string(statement)
	}
	if c.Inexact != "" {
		s += " (not exact: " + c.Inexact + ")"
	}
	return s
}
