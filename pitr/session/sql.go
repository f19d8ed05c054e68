package session

import (
	"context"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/internal/fault"
)

// Close closes without waiting for the server's goodbye.
func Close(conn *pgconn.PgConn) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = conn.Close(ctx) // the connection is given up in any case
}

// Exec runs SQL without results.
func Exec(ctx context.Context, conn *pgconn.PgConn, sql string) error {
	_, err := conn.Exec(ctx, sql).ReadAll()
	return Error(err)
}

// Rows runs a query with text parameters and gives its rows as text; NULL is "".
func Rows(ctx context.Context, conn *pgconn.PgConn, sql string, params ...string) ([][]string, error) {
	values := make([][]byte, len(params))
	for i, p := range params {
		values[i] = []byte(p)
	}
	res := conn.ExecParams(ctx, sql, values, nil, nil, nil).Read()
	if res.Err != nil {
		return nil, Error(res.Err)
	}
	rows := make([][]string, len(res.Rows))
	for i, r := range res.Rows {
		for _, v := range r {
			rows[i] = append(rows[i], string(v))
		}
	}
	return rows, nil
}

// Value gives the first column of the first row, "" if there is none.
func Value(ctx context.Context, conn *pgconn.PgConn, sql string, params ...string) (string, error) {
	rows, err := Rows(ctx, conn, sql, params...)
	if err != nil || len(rows) == 0 || len(rows[0]) == 0 {
		return "", err
	}
	return rows[0][0], nil
}

// OwnTableSQL finds a table that Tidemark keeps on a target ($1): 1 if it belongs to a superuser or the session's role, and its owner's
// name. To read one of anybody else could run his code with this role's rights.
const OwnTableSQL = `
select (c.relkind = 'r' and (r.rolsuper or r.rolname = current_user))::int::text, r.rolname from pg_catalog.pg_class c
join pg_catalog.pg_roles r on r.oid = c.relowner where c.oid = to_regclass($1)`

// OwnTable reports whether a table that Tidemark keeps on a target is there. One of another role that is no superuser is
// an error.
func OwnTable(ctx context.Context, conn *pgconn.PgConn, name string) (bool, error) {
	rows, err := Rows(ctx, conn, OwnTableSQL, name)
	if err != nil || len(rows) == 0 {
		return false, err
	}
	if rows[0][0] != "1" {
		return false, fault.New(fault.Usage, "run this as that role if the table is Tidemark's; else drop it", "%s on the target belongs to role %q", name, rows[0][1])
	}
	return true, nil
}

// Error gives an error of the server, or of the way to it, its exit code.
func Error(err error) error {
	if err == nil {
		return nil
	}
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case !ok:
		return fault.Wrap(err, fault.Unreachable, "", "the target database")
	case strings.HasPrefix(pgErr.Code, "57P"), strings.HasPrefix(pgErr.Code, "08"):
		return fault.Wrap(err, fault.Unreachable, "", "the target database")
	case pgErr.Code == "53100":
		return fault.Wrap(err, fault.Failed, "the target server's disk is full", "")
	}
	return fault.Wrap(err, fault.Failed, "", "")
}

// notGranted marks a connection on which a GRANT passed over what its role may not grant.
const notGranted = "tidemark: privilege not granted"

// GrantPassedOver reports whether a GRANT or REVOKE passed over what its role may not grant, with no more than a warning, since the connection was
// opened or last asked.
func GrantPassedOver(conn *pgconn.PgConn) bool {
	passed := conn.CustomData()[notGranted] == true
	delete(conn.CustomData(), notGranted)
	return passed
}
