package apply

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/internal/ddl"
	"tidemark/internal/sqltext"
)

// settleCopies gives a new table what LIKE copied at the source. LIKE locks nothing that keeps others from adding indexes,
// statistics objects and comments to the table that it copies: where they commit first the replay copies more than the statement
// saw. And what DROP INDEX CONCURRENTLY was about, or CREATE INDEX CONCURRENTLY had left invalid, is no index of the replay's.
func (e *execution) settleCopies(ctx context.Context, conn *pgconn.PgConn) error {
	relations := e.message.Relations()
	if e.message.Copied == nil || len(relations) == 0 {
		return nil
	}
	table := relations[0]
	have, err := copies(ctx, conn, table)
	if err != nil || have == nil {
		return err
	}
	same, err := e.sameMajor(ctx, conn)
	if err != nil {
		return err
	}
	for _, step := range copySteps(table, have, e.message.Copied, same) {
		fix := *e
		fix.message = step.as(e.message)
		if err := fix.attempts(ctx, conn, step.sql); err != nil {
			return fmt.Errorf("give %s.%s what LIKE copied at the source: %w", table.Schema, table.Name, err)
		}
	}
	return nil
}

// copies are what the table has here, nil if it isn't there.
func copies(ctx context.Context, conn *pgconn.PgConn, table ddl.Object) (have []ddl.Copied, err error) {
	err = asDescribed(ctx, conn, func() error {
		rows, err := queryOn(ctx, conn, ddl.CopiedSQL, table.Schema, table.Name)
		for _, r := range rows {
			have = append(have, ddl.Copied{Type: string(r[0]), Name: string(r[1]), SQL: string(r[2]), Comment: string(r[3])})
		}
		return err
	})
	if len(have) == 1 && have[0].Type == "" {
		have = []ddl.Copied{}
	}
	return have, err
}

// copyStep is a statement that brings a table nearer to what LIKE made of it at the source.
type copyStep struct {
	sql  string
	tag  string
	made *ddl.Object // that it makes, and that has an owner
}

// as is a message that says as much, of the role that LIKE was executed by.
func (s copyStep) as(like *ddl.Message) *ddl.Message {
	m := &ddl.Message{
		Version: like.Version, Tag: s.tag, SQL: s.sql, User: like.User, Super: like.Super, XID: like.XID, ServerVersion: like.ServerVersion, Bytes: like.Bytes,
		Settings: map[string]string{"search_path": "pg_catalog, pg_temp", "standard_conforming_strings": "on"},
		Objects:  like.Relations()[:1],
	}
	if s.made != nil {
		m.Objects = []ddl.Object{*s.made}
	}
	return m
}

// copySteps make want of what a table has: first they drop, since what is to be made may have the same name.
func copySteps(table ddl.Object, have, want []ddl.Copied, samePrint bool) (steps []copyStep) {
	find := func(list []ddl.Copied, c ddl.Copied) (ddl.Copied, bool) {
		i := slices.IndexFunc(list, func(o ddl.Copied) bool { return o.Type == c.Type && o.Name == c.Name })
		if i < 0 {
			return ddl.Copied{}, false
		}
		return list[i], true
	}
	gone := func(h ddl.Copied) bool {
		w, ok := find(want, h)
		return h.SQL != "" && (!ok || w.SQL == "" || samePrint && w.SQL != h.SQL)
	}
	for _, h := range have {
		if gone(h) {
			steps = append(steps, copyStep{sql: "DROP " + copiedKind[h.Type] + " " + quoteTable(table.Schema, h.Name), tag: "DROP " + copiedKind[h.Type]})
		} else if _, ok := find(want, h); !ok {
			steps = append(steps, comment(table, h, "NULL"))
		}
	}
	for _, w := range want {
		h, ok := find(have, w)
		if made := !ok || gone(h); w.SQL != "" && made {
			step := copyStep{sql: w.SQL, tag: "CREATE " + copiedKind[w.Type]}
			if w.Type == "statistics" {
				step.made = &ddl.Object{Type: "statistics object", Schema: table.Schema, Name: w.Name, Identity: quoteTable(table.Schema, w.Name)}
			}
			steps = append(steps, step)
			h = ddl.Copied{}
		}
		switch {
		case w.Comment != "" && w.Comment != h.Comment:
			steps = append(steps, comment(table, w, sqltext.QuoteLiteral(w.Comment)))
		case w.Comment == "" && h.Comment != "":
			steps = append(steps, comment(table, w, "NULL"))
		}
	}
	return steps
}

// copiedKind is what SQL calls the types of Copied.
var copiedKind = map[string]string{"index": "INDEX", "statistics": "STATISTICS", "column": "COLUMN", "constraint": "CONSTRAINT"}

// comment sets the comment of something of a table to an SQL literal.
func comment(table ddl.Object, c ddl.Copied, text string) copyStep {
	about := quoteTable(table.Schema, c.Name)
	switch c.Type {
	case "column":
		about = quoteTable(table.Schema, table.Name) + "." + sqltext.QuoteIdent(c.Name)
	case "constraint":
		about = sqltext.QuoteIdent(c.Name) + " ON " + quoteTable(table.Schema, table.Name)
	}
	return copyStep{sql: "COMMENT ON " + copiedKind[c.Type] + " " + about + " IS " + text, tag: "COMMENT"}
}
