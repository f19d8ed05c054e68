package apply

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/internal/fault"
)

// safePath is the search_path under which the replay's own queries run. What users of the source made in other schemas
// must not be found by a superuser's query: an operator that fits better than pg_catalog's, or a type of the session's
// temporary schema, which counts as the first unless it is named.
const safePath = "SET search_path = pg_catalog, pg_temp"

// sessionState is what a connection was like before statements of the source ran in it.
type sessionState struct {
	user     string // the connecting role
	encoding string // client_encoding
	settings string // JSON: all that any role may set, but search_path
	path     string // search_path that rows are applied under: functions of constraints may need it
	known    bool   // path is
	safe     bool   // search_path is safePath
}

const sessionQuery = `
select current_user, current_setting('client_encoding'), json_object_agg(name, setting)::text from pg_catalog.pg_settings
where context = 'user' and name not in ('search_path', 'client_encoding', 'transaction_isolation', 'transaction_read_only', 'transaction_deferrable')
   or name = 'session_replication_role' and setting = 'replica'`

// read takes in what the session is like. search_path is safe.
func (s *sessionState) read(ctx context.Context, conn *pgconn.PgConn) error {
	rows, err := queryOn(ctx, conn, sessionQuery)
	if err != nil {
		return fault.Wrap(err, codeOf(err), "", "read the session's settings")
	}
	s.user, s.encoding, s.settings = string(rows[0][0]), string(rows[0][1]), string(rows[0][2])
	return nil
}

// restore makes the session what it was before a statement that may have run anything: settings, whether made for
// the transaction or for longer, cursors that outlive the transaction (and whose query would run at its end, with the
// connecting role's rights), temporary objects. Prepared statements go with execution.run.
func (s *sessionState) restore(ctx context.Context, conn *pgconn.PgConn) error {
	// The words of these commands aren't looked up in any path.
	if _, err := conn.Exec(ctx, safePath+"; SET client_encoding = '"+s.encoding+"'; CLOSE ALL; DISCARD TEMP").ReadAll(); err != nil {
		return err
	}
	_, err := queryOn(ctx, conn, "select count(set_config(key, value, false)) from json_each_text($1::json)", s.settings)
	return err
}

// safely sets the search_path for the replay's own queries, if it is another.
func (w *worker) safely(ctx context.Context) error {
	s := &w.session
	if s.safe {
		return nil
	}
	if !s.known {
		results, err := w.conn.Exec(ctx, "SHOW search_path").ReadAll()
		if err != nil {
			return fault.Wrap(err, codeOf(err), "", "read the session's search_path")
		}
		s.path, s.known = string(results[0].Rows[0][0]), true
	}
	if err := w.exec(ctx, safePath); err != nil {
		return fault.Wrap(err, codeOf(err), "", "set the session's search_path")
	}
	s.safe = true
	return nil
}

// forRows sets the search_path that rows are applied under, if it is another.
func (w *worker) forRows(ctx context.Context) error {
	if !w.session.safe {
		return nil
	}
	if err := w.exec(ctx, "SELECT pg_catalog.set_config('search_path', '"+strings.ReplaceAll(w.session.path, "'", "''")+"', false)"); err != nil {
		return fault.Wrap(err, codeOf(err), "", "set the session's search_path")
	}
	w.session.safe = false
	return nil
}
