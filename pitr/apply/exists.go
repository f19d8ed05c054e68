package apply

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/internal/ddl"
)

// With IF EXISTS a statement passes over what the replay knows by another name: that of it or of its schema was changed
// by a transaction which the statement did not see yet, and which committed before.

// certain takes IF EXISTS out of an ALTER that found something.
func certain(m *ddl.Message, sql string) string {
	if len(m.Objects) == 0 {
		return sql
	}
	s := cutStatement(m, sql)
	if s == nil || !s.at(0, "alter") {
		return sql
	}
	for i := 2; i <= 3; i++ { // behind TABLE, MATERIALIZED VIEW
		if s.at(i, "if", "exists") {
			return s.text(0, i) + " " + s.text(i+2, len(s.words))
		}
	}
	return sql
}

var (
	// errStays says that something is there yet which was dropped at the source.
	errStays = errors.New("is there yet, under a name that the statement did not mean here")
	// errUnknown says that nothing here has the name of what was dropped at the source.
	errUnknown = errors.New("is not known by this name")
)

// doomed is something here that a DROP dropped at the source, by its OIDs on the target.
type doomed struct{ class, oid string }

// doom finds what is here of the things that a DROP dropped at the source, before it is executed. Where one isn't, names given back may help: it fails,
// unless all were tried (lenient). What was never restored is nowhere.
func (e *execution) doom(ctx context.Context, conn *pgconn.PgConn) error {
	if !strings.HasPrefix(e.message.Tag, "DROP ") || e.message.Tag == "DROP OWNED" {
		return nil // that says no names
	}
	var unknown error
	for i, o := range e.message.Dropped {
		if _, ok := e.doomed[i]; ok || grantable[o.Type].class == "" && o.Type != "index" {
			continue
		}
		d, ok, err := e.meant(ctx, conn, o)
		switch {
		case err != nil:
			return err
		case ok && e.doomed == nil:
			e.doomed = map[int]doomed{i: d}
		case ok:
			e.doomed[i] = d
		case unknown == nil:
			unknown = fmt.Errorf("%s %s %w", o.Type, o.Identity, errUnknown)
		}
	}
	if e.lenient || e.choice == Try || len(e.latest) == 0 {
		return nil
	}
	return unknown
}

// meant finds an object of the source: a table by its OID there where that is known, anything else by name.
func (e *execution) meant(ctx context.Context, conn *pgconn.PgConn, o ddl.Object) (doomed, bool, error) {
	if oid, ok := e.holds.known[o.OID]; ok && o.Type == "table" {
		d := doomed{"1259", itoa(int64(oid))} // pg_class
		there, err := d.there(ctx, conn)
		return d, there, err
	}
	class, oid, err := find(ctx, conn, o)
	return doomed{class, oid}, err == nil && oid != "0", err
}

func (d doomed) there(ctx context.Context, conn *pgconn.PgConn) (bool, error) {
	rows, err := queryOn(ctx, conn, "select 1 from pg_catalog.pg_identify_object($1::oid, $2::oid, 0) where identity is not null", d.class, d.oid)
	return len(rows) > 0, err
}

// gone makes sure that nothing is left of what a DROP dropped.
func (e *execution) gone(ctx context.Context, conn *pgconn.PgConn) error {
	for i, d := range e.doomed {
		there, err := d.there(ctx, conn)
		if err != nil {
			return err
		}
		if there {
			o := e.message.Dropped[i]
			return fmt.Errorf("%s %s %w", o.Type, o.Identity, errStays)
		}
	}
	return nil
}
