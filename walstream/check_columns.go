package walstream

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// partsQuery begins a query with types (oid) and what they are made of (part): elements, base types, subtypes,
// columns of composite types.
const partsQuery = `
with recursive parts as (
  select oid, typelem as part from pg_type where typelem <> 0
  union all select oid, typbasetype from pg_type where typbasetype <> 0
  union all select rngtypid, rngsubtype from pg_range
  union all select rngmultitypid, rngtypid from pg_range
  union all select t.oid, a.atttypid from pg_type t join pg_attribute a on a.attrelid = t.typrelid
    where t.typtype = 'c' and a.attnum > 0 and not a.attisdropped),
made_of as (select oid, oid as root from pg_type where %s
  union select p.oid, m.root from made_of m join parts p on p.part = m.oid) `

// unreadableQuery lists columns of types whose input functions take no value: what the server prints can't be
// read back (src/backend/utils/adt/pseudotypes.c and src/backend/statistics). Columns of partitions and
// inheritance children are their parents'.
var unreadableQuery = fmt.Sprintf(partsQuery, `oid in ('pg_node_tree'::regtype, 'pg_ndistinct'::regtype, 'pg_dependencies'::regtype,
  'pg_mcv_list'::regtype, 'pg_brin_bloom_summary'::regtype, 'pg_brin_minmax_multi_summary'::regtype)`) + `
select distinct a.attrelid, quote_ident(a.attname), format_type(m.root, null) from pg_attribute a join made_of m on m.oid = a.atttypid
where a.attrelid >= 16384 and a.attnum > 0 and not a.attisdropped and a.attinhcount = 0 and a.attgenerated = '' order by 1, 2`

// enumHashQuery lists tables partitioned by the hash of a value that holds an enum's: that is the hash of the
// enum value's OID, which is another in another database (hashenum, src/backend/access/hash/hashfunc.c).
var enumHashQuery = fmt.Sprintf(partsQuery, "typtype = 'e'") + `
select distinct p.partrelid, quote_ident(a.attname), format_type(m.root, null) from pg_partitioned_table p
join pg_attribute a on a.attrelid = p.partrelid and a.attnum = any (p.partattrs::int2[]) join made_of m on m.oid = a.atttypid
where p.partstrat = 'h' order by 1, 2`

// generatedKeyQuery lists tables whose replica identity has a generated column in its key.
const generatedKeyQuery = `
select distinct c.oid, quote_ident(a.attname), ''::text from pg_class c join pg_index i on i.indrelid = c.oid
join pg_attribute a on a.attrelid = c.oid and a.attnum = any ((i.indkey::int2[])[0:i.indnkeyatts - 1]) and a.attgenerated <> ''
where c.relkind = 'r' and case c.relreplident when 'd' then i.indisprimary when 'i' then i.indisreplident else false end order by 1, 2`

// oddColumn is a column that a query found.
type oddColumn struct {
	oid          uint32
	column, what string
}

// checkColumns looks for columns whose values don't come through.
func (s *source) checkColumns(ctx context.Context, conn *pgx.Conn) (list []Finding, err error) {
	for _, q := range []struct {
		sql  string
		find func(*sourceTable, oddColumn) (Finding, bool)
	}{{unreadableQuery, s.unreadable}, {enumHashQuery, s.enumHash}, {generatedKeyQuery, s.generatedKey}} {
		rows, err := conn.Query(ctx, q.sql)
		if err != nil {
			return nil, queryFault(err, "looking at columns")
		}
		found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (c oddColumn, err error) {
			return c, row.Scan(&c.oid, &c.column, &c.what)
		})
		if err != nil {
			return nil, queryFault(err, "looking at columns")
		}
		for _, c := range found {
			if t := s.byOID(c.oid); t != nil && t.wanted && t.published() {
				if f, bad := q.find(t, c); bad {
					list = append(list, f)
				}
			}
		}
	}
	return list, nil
}

func (s *source) byOID(oid uint32) *sourceTable {
	for _, t := range s.tables {
		if t.OID == oid {
			return t
		}
	}
	return nil
}

func (s *source) unreadable(t *sourceTable, c oddColumn) (Finding, bool) {
	return Finding{"unreadable_type", true, t.Quoted,
		fmt.Sprintf("column %s holds values of type %s, which PostgreSQL prints but doesn't read back: the table can't be restored", c.column, c.what),
		fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s TYPE text USING %[2]s::text", t.Quoted, c.column)}, true
}

func (s *source) enumHash(t *sourceTable, c oddColumn) (Finding, bool) {
	return Finding{"hash_of_enum", true, t.Quoted,
		fmt.Sprintf("it is partitioned by the hash of %s, which holds values of the enum %s: their hashes are others in a restored database, where the rows would not fit their partitions; partition by list, or leave the table out with --table", c.column, c.what), ""}, true
}

// generatedKey: generated columns aren't in the stream, so neither is a key of theirs. Where they are published
// (18 and later) a stored one is; where they could be and aren't, the server refuses UPDATE and DELETE.
func (s *source) generatedKey(t *sourceTable, c oddColumn) (Finding, bool) {
	f := Finding{"generated_key", true, t.Quoted,
		"its replica identity has the generated column " + c.column + ", which the stream doesn't carry: updated and deleted rows could not be found again",
		"ALTER TABLE " + t.Quoted + " REPLICA IDENTITY FULL"}
	if s.server.Version >= 180000 {
		f.Fix = "" // FULL would cover the generated column too
		return f, s.pub == nil || !s.pub.GeneratedColumns
	}
	return f, true
}
