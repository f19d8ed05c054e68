package apply

import (
	"context"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/internal/sqltext"
)

// HelperName names an index that is made for the replay alone, unquoted, by the OID of its table at the source.
func HelperName(table uint32) string {
	return "tidemark_replay_" + strconv.FormatUint(uint64(table), 10)
}

// DropHelper drops such an index if it is there, given the OIDs of its table at the source and here. By then its schema may
// have another name, and the table another schema.
func DropHelper(ctx context.Context, conn *pgconn.PgConn, source, here uint32) error {
	rows, err := queryOn(ctx, conn, `
select n.nspname, c.relname from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indexrelid join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where i.indrelid = $1::pg_catalog.oid and c.relname = $2`, strconv.FormatUint(uint64(here), 10), HelperName(source))
	if err != nil || len(rows) == 0 {
		return err
	}
	_, err = conn.Exec(ctx, "DROP INDEX "+sqltext.QuoteName(string(rows[0][0]), string(rows[0][1]))).ReadAll()
	return err
}
