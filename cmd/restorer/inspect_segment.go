package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"

	"tidemark/internal/cli"
	"tidemark/internal/config"
	"tidemark/objectstore"
	"tidemark/segment"
)

// segment prints the segment that an object is a part of.
func (c *inspectCmd) segment(ctx context.Context, store objectstore.Store, w io.Writer) error {
	parts, err := siblings(ctx, store, c.Key)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(w)
	defer out.Flush()
	last := parts[len(parts)-1]
	index, err := segment.ReadIndex(segment.PartFile{R: objectstore.ReaderAt(ctx, store, last.Key), Size: last.Size, Name: last.Key})
	if err != nil {
		return err
	}
	printIndex(out, index, parts)
	if c.Rows {
		return printRows(ctx, store, out, parts)
	}
	return nil
}

// siblings lists the parts of the segment that key belongs to, in order.
func siblings(ctx context.Context, store objectstore.Store, key string) ([]objectstore.Info, error) {
	prefix := key
	if dot := strings.LastIndexByte(key, '.'); dot > 0 {
		prefix = key[:dot+1]
	}
	var parts []objectstore.Info
	for info, err := range store.List(ctx, prefix, "") {
		if err != nil {
			return nil, err
		}
		parts = append(parts, info)
	}
	if len(parts) == 0 {
		return nil, fmt.Errorf("%s: %w", key, objectstore.ErrNotFound)
	}
	return parts, nil
}

func printIndex(w io.Writer, x *segment.Index, parts []objectstore.Info) {
	s := x.Summary
	fmt.Fprintf(w, "segment [%s, %s) of history %d, written in epoch %d\n", x.From, x.To, x.History, x.Epoch)
	for _, p := range parts {
		fmt.Fprintf(w, "part %s, %s\n", p.Key, config.Size(p.Size))
	}
	fmt.Fprintf(w, "%s transactions: %s inserts, %s updates, %s deletes, %s truncates, %s messages; %d blocks, %s of messages\n",
		cli.Count(s.Transactions), cli.Count(s.Inserts), cli.Count(s.Updates), cli.Count(s.Deletes), cli.Count(s.Truncates),
		cli.Count(s.Messages), len(x.Blocks), config.Size(s.RawBytes))
	relations := cli.NewTable("\nrelation", ">oid", "identity", "columns (key columns with *)")
	for i := range x.Relations {
		r := &x.Relations[i]
		relations.Row(r, r.ID, string(r.Identity), columns(r))
	}
	// Writing to a bufio.Writer: its error comes with Flush.
	_ = relations.Write(w)
	transactions := cli.NewTable("\ncommit time", ">xid", "commit lsn", "changes")
	for i := range x.Transactions {
		t := &x.Transactions[i]
		transactions.Row(t.CommitTime, t.XID, t.CommitLSN, changes(x, t))
	}
	_ = transactions.Write(w)
	for _, m := range x.Marks {
		fmt.Fprintf(w, "mark %s at %s, %s\n", m.Name, m.LSN, m.Time)
	}
	if len(x.Sequences) > 0 {
		fmt.Fprintf(w, "%d sequences as of %s\n", len(x.Sequences), x.SequencesLSN)
	}
}

func columns(r *segment.Relation) string {
	names := make([]string, len(r.Columns))
	for i, c := range r.Columns {
		names[i] = c.Name
		if c.Key() {
			names[i] += "*"
		}
	}
	return strings.Join(names, ", ")
}

func changes(x *segment.Index, t *segment.Transaction) string {
	var all []string
	for _, c := range t.Changes {
		text := x.Relations[c.Relation].String()
		for _, n := range []struct {
			op    string
			count int64
		}{{"insert", c.Inserts}, {"update", c.Updates}, {"delete", c.Deletes}, {"truncate", c.Truncates}} {
			if n.count > 0 {
				text += fmt.Sprintf(" %s %s", n.op, cli.Count(n.count))
			}
		}
		all = append(all, text)
	}
	if t.Messages > 0 {
		all = append(all, fmt.Sprintf("%d messages", t.Messages))
	}
	if t.Foreign {
		all = append(all, "from another node")
	}
	return strings.Join(all, "; ")
}

// printRows decodes the parts and prints every operation.
func printRows(ctx context.Context, store objectstore.Store, w io.Writer, parts []objectstore.Info) error {
	fmt.Fprintln(w)
	r := segment.NewReader(func() (segment.PartFile, error) {
		if len(parts) == 0 {
			return segment.PartFile{}, io.EOF
		}
		key := parts[0].Key
		parts = parts[1:]
		data, err := objectstore.GetAll(ctx, store, key)
		return segment.PartFile{R: bytes.NewReader(data), Size: int64(len(data)), Name: key}, err
	}, segment.ReaderOptions{})
	defer r.Close()
	for {
		rec, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = printRecord(w, rec)
		}
		if err != nil {
			return err
		}
	}
}

func printRecord(w io.Writer, rec *segment.Record) (err error) {
	switch rec.Op {
	case segment.OpBegin:
		_, err = fmt.Fprintf(w, "begin %d, to commit at %s, %s\n", rec.Begin.XID, rec.Begin.CommitLSN, rec.Begin.CommitTime)
	case segment.OpCommit:
		_, err = fmt.Fprintf(w, "commit, end %s\n", rec.Commit.EndLSN)
	case segment.OpRelation:
		_, err = fmt.Fprintf(w, "  relation %s (%s)\n", rec.Relation, columns(rec.Relation))
	case segment.OpType:
		_, err = fmt.Fprintf(w, "  type %s.%s\n", rec.TypeDef.Namespace, rec.TypeDef.Name)
	case segment.OpOrigin:
		_, err = fmt.Fprintf(w, "  origin %s, committed there at %s\n", rec.Origin.Name, rec.Origin.CommitLSN)
	case segment.OpMessage:
		_, err = fmt.Fprintf(w, "  message %q at %s: %s\n", rec.Message.Prefix, rec.Message.LSN, value(rec.Content))
	case segment.OpTruncate:
		_, err = fmt.Fprintf(w, "  truncate %s\n", relationNames(rec.TruncateRelations))
	case segment.OpInsert:
		_, err = fmt.Fprintf(w, "  insert %s %s\n", rec.Relation, tuple(rec.Relation, rec.New))
	case segment.OpUpdate:
		_, err = fmt.Fprintf(w, "  update %s%s %s\n", rec.Relation, old(rec), tuple(rec.Relation, rec.New))
	case segment.OpDelete:
		_, err = fmt.Fprintf(w, "  delete %s%s\n", rec.Relation, old(rec))
	}
	return err
}

func relationNames(all []*segment.Relation) string {
	names := make([]string, len(all))
	for i, r := range all {
		names[i] = r.String()
	}
	return strings.Join(names, ", ")
}

func old(rec *segment.Record) string {
	if rec.OldRole == 0 {
		return ""
	}
	return " where " + tuple(rec.Relation, rec.Old)
}

// tuple prints the columns of a tuple; of an old key only those that were sent.
func tuple(r *segment.Relation, values []segment.Value) string {
	var all []string
	for i, v := range values {
		all = append(all, r.Columns[i].Name+"="+value(v))
	}
	return "(" + strings.Join(all, ", ") + ")"
}

// shownValue is how much of a value is printed, in bytes.
const shownValue = 200

func value(v segment.Value) string {
	switch {
	case v.Kind == segment.Null:
		return "null"
	case v.Kind == segment.Unchanged:
		return "(unchanged)"
	case v.Large != nil:
		return fmt.Sprintf("(%s)", config.Size(v.Large.Size()))
	case len(v.Data) > shownValue:
		return fmt.Sprintf("%q… (%s)", v.Data[:shownValue], config.Size(len(v.Data)))
	}
	return fmt.Sprintf("%q", v.Data)
}
