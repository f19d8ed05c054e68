package apply

import (
	"context"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/internal/ddl"
)

// What a default partition takes grows when a partition beside it goes. The server tells every session that has the default partition
// in its cache, but not of the partitions below that (heap_drop_with_catalog and DetachPartitionFinalize), so that a session that has
// filled one of them goes on refusing what it may hold by now. Sessions of a replay live long, and have filled many.

// belowDefaults finds the partitions, of all levels, below default partitions that have partitions of their own.
const belowDefaults = `
with recursive below as (
  select i.inhrelid as oid from pg_catalog.pg_partitioned_table p join pg_catalog.pg_inherits i on i.inhparent = p.partdefid
  union select i.inhrelid from below b join pg_catalog.pg_inherits i on i.inhparent = b.oid)
select n.nspname, c.relname from below b join pg_catalog.pg_class c on c.oid = b.oid join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p') and pg_catalog.pg_has_role(c.relowner, 'USAGE')`

// forgetBounds has every session read the bounds of those partitions again if a change takes partitions away. An option that no table
// has is taken from them: that changes nothing, and the server tells all sessions that it may have.
func forgetBounds(ctx context.Context, conn *pgconn.PgConn, m *ddl.Message) error {
	if !takesPartitions(m) {
		return nil
	}
	rows, err := queryOn(ctx, conn, belowDefaults)
	if err != nil || len(rows) == 0 {
		return err
	}
	var sql []string
	for _, row := range rows {
		sql = append(sql, "ALTER TABLE "+quoteTable(string(row[0]), string(row[1]))+" RESET (tidemark_nothing)")
	}
	_, err = conn.Exec(ctx, strings.Join(sql, "; ")).ReadAll()
	return err
}

var detaches = regexp.MustCompile(`(?i)\bdetach\b`)

// takesPartitions reports whether a change may take partitions from their tables.
func takesPartitions(m *ddl.Message) bool {
	return m.Tag == "ALTER TABLE" && detaches.MatchString(m.SQL) ||
		slices.ContainsFunc(m.Dropped, func(o ddl.Object) bool { return o.Type == "table" || o.Type == "foreign table" })
}
