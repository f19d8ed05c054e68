package pipeline

import (
	"errors"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/internal/fault"
	"tidemark/segment"
)

// undecodable counts how often the server fails in itself at the same place.
type undecodable struct {
	message string
	end     segment.LSN
	times   int
}

// undecodableAfter is how often that must be for waiting to be given up: about a minute, with the pauses between.
const undecodableAfter = 12

// note takes the error that ended a session, and where the archive ended then. It returns a gap where the server
// reports an internal error (SQLSTATE class XX) again and again: decoding is the same each time, so it never gets past
// what it fails at, and meanwhile keeps all WAL from there on.
func (u *undecodable) note(err error, end segment.LSN) error {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || !strings.HasPrefix(pgErr.Code, "XX") {
		*u = undecodable{}
		return nil
	}
	if u.message != pgErr.Message || u.end != end {
		*u = undecodable{message: pgErr.Message, end: end}
	}
	if u.times++; u.times < undecodableAfter {
		return nil
	}
	return fault.Wrap(err, fault.Gap, gapHint, "the server can't decode its WAL behind %s, in %d attempts", end, u.times)
}
