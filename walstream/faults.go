package walstream

import (
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/internal/fault"
)

// serverCode says what a server's error means for us (SQLSTATEs:
// https://www.postgresql.org/docs/current/errcodes-appendix.html).
func serverCode(pg *pgconn.PgError) (fault.Code, string) {
	switch pg.Code {
	case "57P01", "57P02", "57P03", "57P05", "57014":
		return fault.Unreachable, "the server is shutting down or ended our session; it is tried again"
	case "55006":
		return fault.Conflict, "stop the other reader first; one archiver reads one slot"
	case "42501", "28000", "28P01":
		return fault.Usage, "archiver check --sql prints the missing privileges"
	case "55P03":
		return fault.Unreachable, "a lock was not to be had in time; it is tried again"
	}
	switch pg.Code[:min(2, len(pg.Code))] {
	case "08", "53", "57", "58":
		return fault.Unreachable, "the server is in trouble; it is tried again"
	}
	return fault.Failed, strings.Join(strings.Fields(pg.Hint), " ")
}

// streamCode is serverCode for an error that ends or refuses the stream, where a missing object means
// that the slot can't go on from where it is.
func streamCode(pg *pgconn.PgError) (fault.Code, string) {
	const again = "a new base snapshot is needed: the stream can't be read on from here"
	switch {
	case pg.Code == "55000":
		return fault.Gap, again
	case pg.Code == "42704" && strings.Contains(pg.Message, "publication"):
		return fault.Gap, "the publication did not exist at that point of the WAL; a slot can't step over it: archiver run --accept-gap goes on with a new one"
	case pg.Code == "42704":
		return fault.Gap, "the replication slot is gone; " + again
	case pg.Code == "58P01" && strings.Contains(pg.Message, "removed"):
		return fault.Gap, again
	case pg.Code == "54000", strings.HasPrefix(pg.Message, "invalid memory alloc request size"):
		return fault.Gap, "PostgreSQL can't send a row whose text is over 1 GB (bytea takes two characters a byte): make it smaller or delete it; a slot can't step over it: archiver run --accept-gap goes on with a new one"
	case strings.HasPrefix(pg.Message, "unexpected duplicate for tablespace"):
		return fault.Gap, "PostgreSQL can't decode a transaction that took schema changes back to a savepoint and rewrote a table afterwards (docs/operations.md); a slot can't step over it: archiver run --accept-gap goes on with a new one"
	case pg.Code == "22021" || pg.Code == "22P05":
		return fault.Failed, "a value can't be converted to UTF8; repair it on the source, or use an SQL_ASCII client encoding"
	}
	return serverCode(pg)
}
