package evolve

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// write writes rows into whatever tables there are, until ctx ends.
func (s *session) write(ctx context.Context) error {
	work := context.WithoutCancel(ctx)
	for ctx.Err() == nil {
		if err := s.writeTransaction(work); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(s.rng.IntN(50)) * time.Millisecond):
		}
	}
	return nil
}

func (s *session) writeTransaction(ctx context.Context) error {
	err := s.exec(ctx, "BEGIN")
	for range 1 + s.rng.IntN(4) {
		if err == nil {
			err = s.writeRows(ctx)
		}
	}
	end := "COMMIT"
	if err != nil || s.rng.IntN(10) == 0 {
		end = "ROLLBACK"
	}
	if err != nil && !errors.Is(err, errNothing) && !expected(err) {
		return err
	}
	if err = s.exec(ctx, end); err != nil && !expected(err) {
		return err
	}
	return nil
}

// plainRow is a statement that writes a row and always succeeds.
func (s *session) plainRow() string {
	return fmt.Sprintf("INSERT INTO play.base (id, b) VALUES (%d, %s) ON CONFLICT (id) DO UPDATE SET b = 'again; ' || excluded.b", s.rng.IntN(1000), s.text())
}

// writeRows is one statement that writes to a random table.
func (s *session) writeRows(ctx context.Context) error {
	if s.rng.IntN(6) == 0 {
		return s.exec(ctx, s.plainRow())
	}
	table, ok, err := s.pick(ctx, "writable", 0)
	if err != nil || !ok {
		return err
	}
	name := table.schema + "." + table.name
	switch s.rng.IntN(12) {
	case 0:
		return s.exec(ctx, "DELETE FROM "+name+" WHERE ctid IN (SELECT ctid FROM ONLY "+name+" LIMIT 3)")
	case 1:
		return s.exec(ctx, "SELECT nextval('play.counter')")
	case 2:
		if s.rng.IntN(5) == 0 {
			return s.exec(ctx, "TRUNCATE "+name+" CASCADE")
		}
		fallthrough
	case 3, 4, 5:
		return s.update(ctx, table, name)
	default:
		return s.insert(ctx, table, name)
	}
}

// generators are expressions for the types that rows are filled with; others keep their defaults.
var generators = func() map[string]string {
	g := map[string]string{"character varying": "md5(random()::text)", "timestamp with time zone": "clock_timestamp()",
		"timestamp without time zone": "timestamp '2020-01-01' + random() * interval '1 year'", "character": "left(md5(random()::text), 3)",
		"integer": "(random() * 1e6)::int", "integer[]": "ARRAY[(random() * 10)::int, NULL]", "numeric": "round((random() * 100)::numeric, 2)"}
	for _, t := range columnTypes {
		base, _, _ := strings.Cut(t.name, "(")
		if _, there := g[base]; !there {
			g[base] = t.random
		}
	}
	return g
}()

type column struct{ name, expression string }

// writable lists the columns that can be given a value, and how.
func (s *session) writable(ctx context.Context, relation uint32) ([]column, error) {
	rows, err := s.prepared(ctx, "writable", `SELECT quote_ident(attname), regexp_replace(format_type(atttypid, atttypmod), '[(].*[)]', '')
		FROM pg_catalog.pg_attribute WHERE attrelid = $1::oid AND attnum > 0 AND NOT attisdropped AND attgenerated = '' AND attidentity <> 'a'
		ORDER BY attnum`, fmt.Sprint(relation))
	if err != nil {
		return nil, err
	}
	var columns []column
	for _, row := range rows {
		if expression, ok := generators[string(row[1])]; ok {
			columns = append(columns, column{string(row[0]), expression})
		}
	}
	return columns, nil
}

func (s *session) insert(ctx context.Context, table picked, name string) error {
	columns, err := s.writable(ctx, table.relation)
	if err != nil {
		return err
	}
	var names, values []string
	for _, c := range columns {
		if s.rng.IntN(4) > 0 || strings.HasSuffix(c.expression, "::int") {
			names, values = append(names, c.name), append(values, c.expression)
		}
	}
	if len(names) == 0 {
		return s.exec(ctx, "INSERT INTO "+name+" DEFAULT VALUES")
	}
	n := 1 + s.rng.IntN(20)
	if s.rng.IntN(20) == 0 {
		n = 500
	}
	return s.exec(ctx, fmt.Sprintf("INSERT INTO %s (%s) SELECT %s FROM generate_series(1, %d)", name, strings.Join(names, ", "), strings.Join(values, ", "), n))
}

func (s *session) update(ctx context.Context, table picked, name string) error {
	columns, err := s.writable(ctx, table.relation)
	if err != nil || len(columns) == 0 {
		return err
	}
	c := columns[s.rng.IntN(len(columns))]
	return s.exec(ctx, fmt.Sprintf("UPDATE %s SET %s = %s WHERE ctid IN (SELECT ctid FROM ONLY %s LIMIT %d)", name, c.name, c.expression, name, 1+s.rng.IntN(10)))
}
