package workload

import (
	"context"
	"fmt"
	"sort"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Hashes says what each table of a database holds: "rows:sum" by quoted name, where the sum of a
// hash per row does not depend on the order of the rows.
type Hashes map[string]string

// Diff returns one line for each table that differs, or "" when all are equal.
func (h Hashes) Diff(other Hashes) string {
	var lines []string
	for name, hash := range h {
		if o, ok := other[name]; !ok {
			lines = append(lines, fmt.Sprintf("%s: %s, the other has no such table", name, hash))
		} else if o != hash {
			lines = append(lines, fmt.Sprintf("%s: %s, the other %s", name, hash, o))
		}
	}
	for name, hash := range other {
		if _, ok := h[name]; !ok {
			lines = append(lines, fmt.Sprintf("%s: only the other has it: %s", name, hash))
		}
	}
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

// fixedSettings make a row's text independent of the server it is read from.
const fixedSettings = `SET search_path = ''; SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'postgres'; SET TimeZone = 'UTC';
	SET extra_float_digits = 3; SET bytea_output = 'hex'; SET lc_monetary = 'C'; SET row_security = off; SET xmloption = 'content'`

// permanentTables are the tables whose rows an archive keeps: no temporary and unlogged ones, no
// partitioned parents (their partitions are listed), and none of Tidemark's own.
const permanentTables = `
	SELECT c.oid::bigint, format('%I.%I', n.nspname, c.relname),
	       (SELECT coalesce(string_agg(format('t.%I', attname), ', ' ORDER BY attname COLLATE "C"), '')
	          FROM pg_catalog.pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped),
	       c.relfilenode IS DISTINCT FROM pg_catalog.pg_relation_filenode(c.oid) AS rewritten
	FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
	WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'tidemark', 'tidemark_replay')
	ORDER BY 2`

type table struct {
	oid       int64
	name      string
	columns   string // sorted by name: partitions and copies may have another order
	rewritten bool   // truncated or rewritten since the snapshot: it looks empty, but was not
}

// HashDatabase returns the hashes of the database that the DSN names.
func HashDatabase(ctx context.Context, dsn string) (Hashes, error) {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	cfg.RuntimeParams["client_encoding"] = "UTF8" // whatever the database's own is
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"); err != nil {
		return nil, err
	}
	return HashTables(ctx, conn)
}

// HashTables returns the hashes of the tables as the transaction that conn has open sees them. It
// changes the session's settings.
func HashTables(ctx context.Context, conn *pgx.Conn) (Hashes, error) {
	if _, err := conn.Exec(ctx, fixedSettings, pgx.QueryExecModeSimpleProtocol); err != nil {
		return nil, err
	}
	tables, err := listTables(ctx, conn)
	if err != nil {
		return nil, err
	}
	hashes := Hashes{}
	for _, t := range tables {
		var hash string
		err := conn.QueryRow(ctx, fmt.Sprintf(`
			SELECT count(*) || ':' || coalesce(sum(('x' || left(md5(ROW(%s)::text), 15))::bit(60)::bigint::numeric), 0)
			FROM ONLY %s t`, t.columns, t.name), pgx.QueryExecModeSimpleProtocol).Scan(&hash)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", t.name, err)
		}
		hashes[t.name] = hash
	}
	return hashes, nil
}

func listTables(ctx context.Context, conn *pgx.Conn) ([]table, error) {
	rows, err := conn.Query(ctx, permanentTables, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (t table, err error) {
		return t, row.Scan(&t.oid, &t.name, &t.columns, &t.rewritten)
	})
}
