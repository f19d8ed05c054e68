package apply

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/internal/ddl"
	"tidemark/internal/sqltext"
	"tidemark/segment"
)

// PostgreSQL keeps no lock on most of what a statement names: while a transaction that has made a column of a type, or
// a table in a schema, is still open, another may give the type or the schema another name and commit first. Replayed
// in the order of commits the statement comes after the new name. So the replay remembers what was given another name
// of late, gives back the old ones for a statement that knew only these, and then the new ones again.

// naming is one thing that a schema change gave another name or schema, by OIDs of the target.
type naming struct {
	xid        uint32
	commit     segment.LSN
	class, oid string
	from, to   placed
}

// placed is a name and what it is in: the schema, of a label its type; "0": nothing.
type placed struct{ space, name string }

// namings are the latest, in the order of commits.
type namings []naming

const maxNamings = 256

func (n *namings) add(steps []naming) {
	*n = append(*n, steps...)
	if over := len(*n) - maxNamings; over > 0 {
		*n = slices.Delete(*n, 0, over)
	}
}

// maxLatest is how many namings before a statement it may have known the old names of, having waited for the lock of one.
const maxLatest = 16

// unseen are those that a statement certainly did not know: committed after its message was written. overlap are others that it may
// not have known: it looked its names up some time before, while their transactions may have been under way. latest are these and
// some before: a statement may look up a name, wait for the transaction that changes it, and get its own id only then.
func (n namings) unseen(m *ddl.Message, xid uint32, at segment.LSN) (unseen, overlap, latest namings) {
	for i, s := range n {
		switch {
		case s.xid == xid:
		case s.commit > at:
			unseen = append(unseen, s)
		case int32(s.xid-xid) > 0 || !(recent{s.xid}).seenBy(m.Snapshot):
			overlap, latest = append(overlap, s), append(latest, s)
		case i >= len(n)-maxLatest:
			latest = append(latest, s)
		}
	}
	return unseen, overlap, latest
}

var renames = regexp.MustCompile(`(?i)\b(RENAME|SCHEMA)\b`)

// givesNames reports whether a change may give something another name or schema.
func givesNames(m *ddl.Message) bool {
	return strings.HasPrefix(m.Tag, "ALTER ") && renames.MatchString(m.SQL)
}

// namesQuery reads the names of everything that statements name. What moves with another thing is not among it: members of an
// extension where that itself moves ($1), sequences of columns, row and array types, indexes with their tables.
const namesQuery = `
select n.* from (
select 'pg_namespace' as class, oid, 0 as space, nspname as name from pg_catalog.pg_namespace
union all select 'pg_class', c.oid, c.relnamespace, c.relname from pg_catalog.pg_class c where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
  and not exists (select from pg_catalog.pg_depend d where c.relkind = 'S' and d.classid = 'pg_catalog.pg_class'::regclass and d.objid = c.oid and d.deptype in ('a', 'i'))
union all select 'pg_class', oid, 0, relname from pg_catalog.pg_class where relkind in ('i', 'I')
union all select 'pg_type', t.oid, t.typnamespace, t.typname from pg_catalog.pg_type t left join pg_catalog.pg_class c on c.oid = t.typrelid
  where coalesce(c.relkind, 'c') = 'c' and not exists (select from pg_catalog.pg_type e where e.typarray = t.oid)
union all select 'pg_enum', oid, enumtypid, enumlabel from pg_catalog.pg_enum
union all select 'pg_proc', oid, pronamespace, proname from pg_catalog.pg_proc
union all select 'pg_operator', oid, oprnamespace, oprname from pg_catalog.pg_operator
union all select 'pg_opclass', oid, opcnamespace, opcname from pg_catalog.pg_opclass
union all select 'pg_opfamily', oid, opfnamespace, opfname from pg_catalog.pg_opfamily
union all select 'pg_collation', oid, collnamespace, collname from pg_catalog.pg_collation
union all select 'pg_conversion', oid, connamespace, conname from pg_catalog.pg_conversion
union all select 'pg_ts_config', oid, cfgnamespace, cfgname from pg_catalog.pg_ts_config
union all select 'pg_ts_dict', oid, dictnamespace, dictname from pg_catalog.pg_ts_dict
union all select 'pg_ts_parser', oid, prsnamespace, prsname from pg_catalog.pg_ts_parser
union all select 'pg_ts_template', oid, tmplnamespace, tmplname from pg_catalog.pg_ts_template
union all select 'pg_foreign_server', oid, 0, srvname from pg_catalog.pg_foreign_server
union all select 'pg_foreign_data_wrapper', oid, 0, fdwname from pg_catalog.pg_foreign_data_wrapper
union all select 'pg_language', oid, 0, lanname from pg_catalog.pg_language
union all select 'pg_publication', oid, 0, pubname from pg_catalog.pg_publication
) n where oid >= 16384 and $1 = ''
union all select 'pg_extension', oid, extnamespace, extname from pg_catalog.pg_extension where $1 <> ''`

// readNames reads the names of everything that the change could give another one.
func readNames(ctx context.Context, conn *pgconn.PgConn, m *ddl.Message) (map[[2]string]placed, error) {
	which := ""
	if m.Tag == "ALTER EXTENSION" {
		which = "extensions"
	}
	rows, err := queryOn(ctx, conn, "select class, oid::text, space::text, name::text from ("+namesQuery+") x", which)
	if err != nil {
		return nil, err
	}
	names := make(map[[2]string]placed, len(rows))
	for _, r := range rows {
		names[[2]string{string(r[0]), string(r[1])}] = placed{string(r[2]), string(r[3])}
	}
	return names, nil
}

// named returns what has other names than before. A range goes with its multirange, and so on: at most one thing is renamed by a
// statement, and several move only with an extension.
func (e *execution) named(ctx context.Context, conn *pgconn.PgConn, before map[[2]string]placed) ([]naming, error) {
	now, err := readNames(ctx, conn, e.message)
	if err != nil {
		return nil, err
	}
	var steps []naming
	for object, to := range now {
		if from, ok := before[object]; ok && from != to {
			steps = append(steps, naming{xid: e.source.XID, commit: e.source.CommitLSN, class: object[0], oid: object[1], from: from, to: to})
		}
	}
	return steps, nil
}

// undoNames gives back the old names, newest first, and returns what it could give back, in order. A name that something
// else has by now stays away.
func undoNames(ctx context.Context, conn *pgconn.PgConn, steps namings) (done namings, err error) {
	for _, s := range slices.Backward(steps) {
		if _, err := conn.Exec(ctx, "SAVEPOINT tidemark_name").ReadAll(); err != nil {
			return nil, err
		}
		end := "RELEASE SAVEPOINT tidemark_name"
		ok, err := s.move(ctx, conn, s.to, s.from)
		if _, refused := errors.AsType[*pgconn.PgError](err); refused {
			ok, err, end = false, nil, "ROLLBACK TO SAVEPOINT tidemark_name; "+end
		}
		if err != nil {
			return nil, err
		}
		if _, err := conn.Exec(ctx, end).ReadAll(); err != nil {
			return nil, err
		}
		if ok {
			done = append(done, s)
		}
	}
	slices.Reverse(done)
	return done, nil
}

// redoNames gives the new names again.
func redoNames(ctx context.Context, conn *pgconn.PgConn, steps namings) error {
	for _, s := range steps {
		ok, err := s.move(ctx, conn, s.from, s.to)
		if err == nil && !ok {
			err = errors.New("it is gone")
		}
		if err != nil {
			return fmt.Errorf("give the name %s again, which another transaction gave while the statement ran: %w", sqltext.QuoteIdent(s.to.name), err)
		}
	}
	return nil
}

// move gives a thing another name and schema; false: it is not there.
func (s naming) move(ctx context.Context, conn *pgconn.PgConn, from, to placed) (bool, error) {
	if s.class == "pg_enum" {
		kind, identity, err := identify(ctx, conn, "pg_type", s.from.space)
		if err != nil || kind == "" {
			return false, err
		}
		_, err = conn.Exec(ctx, "ALTER TYPE "+identity+" RENAME VALUE "+sqltext.QuoteLiteral(from.name)+" TO "+sqltext.QuoteLiteral(to.name)).ReadAll()
		return err == nil, err
	}
	if from.name != to.name {
		kind, identity, err := identify(ctx, conn, s.class, s.oid)
		if err != nil || kind == "" {
			return false, err
		}
		if _, err := conn.Exec(ctx, "ALTER "+kind+" "+identity+" RENAME TO "+sqltext.QuoteIdent(to.name)).ReadAll(); err != nil {
			return false, err
		}
	}
	if from.space == to.space {
		return true, nil
	}
	kind, identity, err := identify(ctx, conn, s.class, s.oid)
	if err != nil || kind == "" {
		return false, err
	}
	rows, err := queryOn(ctx, conn, "select quote_ident(nspname) from pg_catalog.pg_namespace where oid = $1::oid", to.space)
	if err != nil || len(rows) == 0 {
		return false, err
	}
	_, err = conn.Exec(ctx, "ALTER "+kind+" "+identity+" SET SCHEMA "+string(rows[0][0])).ReadAll()
	return err == nil, err
}

// identify says what ALTER calls an object; "" if there is none.
func identify(ctx context.Context, conn *pgconn.PgConn, class, oid string) (kind, identity string, err error) {
	rows, err := queryOn(ctx, conn, "select type, identity from pg_catalog.pg_identify_object(('pg_catalog.' || $1)::regclass, $2::oid, 0) where identity is not null", class, oid)
	if err != nil || len(rows) == 0 {
		return "", "", err
	}
	if kind = ownable[string(rows[0][0])]; kind == "" {
		kind = strings.ToUpper(string(rows[0][0]))
	}
	return kind, string(rows[0][1]), nil
}
