package apply

import (
	"cmp"
	"context"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/internal/sqltext"
)

// chosenSQL finds what a statement has made here for an entry of Message.Chosen: kind, schema, name, name with schema, and that
// which it had at the source. There may be no row, or several. $1 table, $2 parent's index, $3 place, $4 column, $5 name at the source.
const chosenSQL = `
select case c.relkind when 'S' then 'SEQUENCE' else 'INDEX' end, n.nspname, c.relname, format('%I.%I', n.nspname, c.relname), format('%I.%I', n.nspname, $5::text)
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where case when $2 <> '' then c.oid in (
    select i.indexrelid from pg_catalog.pg_inherits h join pg_catalog.pg_index i on i.indexrelid = h.inhrelid
    where h.inhparent = pg_catalog.to_regclass($2) and i.indrelid = pg_catalog.to_regclass($1))
  when $4 <> '' then c.relkind = 'S' and c.oid in (
    select d.objid from pg_catalog.pg_depend d join pg_catalog.pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
    where d.classid = 'pg_catalog.pg_class'::regclass and d.refclassid = 'pg_catalog.pg_class'::regclass and d.deptype in ('a', 'i')
      and d.refobjid = pg_catalog.to_regclass($1) and a.attname = $4)
  else c.oid = (select i.indexrelid from pg_catalog.pg_index i where i.indrelid = pg_catalog.to_regclass($1) order by i.indexrelid offset $3::int - 1 limit 1)
  end`

// nameChosen gives what the statement made without a name in it the names that the source's server chose. What isn't found keeps its own:
// comparing the relations tells.
func (e *execution) nameChosen(ctx context.Context, conn *pgconn.PgConn) error {
	type renaming struct{ kind, schema, from, to string }
	var todo []renaming
	here := map[string]string{} // by the name with schema at the source
	for _, c := range e.message.Chosen {
		rows, err := queryOn(ctx, conn, chosenSQL, c.Table, cmp.Or(here[c.Parent], c.Parent), strconv.Itoa(max(c.Place, 1)), c.Column, c.Name)
		if err != nil {
			return err
		}
		if len(rows) != 1 {
			continue
		}
		found := rows[0]
		here[string(found[4])] = string(found[3])
		if string(found[2]) != c.Name {
			todo = append(todo, renaming{string(found[0]), string(found[1]), string(found[2]), c.Name})
		}
	}
	rename := func(r renaming, from, to string) error {
		return e.attempts(ctx, conn, "ALTER "+r.kind+" "+sqltext.QuoteIdent(r.schema)+"."+sqltext.QuoteIdent(from)+" RENAME TO "+sqltext.QuoteIdent(to))
	}
	// The name of one may still be that of another here.
	if len(todo) > 1 {
		for i := range todo {
			between := "tidemark_chosen_" + strconv.Itoa(i)
			if err := rename(todo[i], todo[i].from, between); err != nil {
				return err
			}
			todo[i].from = between
		}
	}
	for _, r := range todo {
		if err := rename(r, r.from, r.to); err != nil {
			return err
		}
	}
	return nil
}
