package apply

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/internal/ddl"
	"tidemark/internal/fault"
	"tidemark/internal/sqltext"
	"tidemark/pitr/session"
)

// What of a schema stands in the way of replay is held back for as long as it goes on: triggers, rules and
// event triggers that fire for replicas too, and identity columns that are GENERATED ALWAYS, which no
// UPDATE may assign. A table on the target remembers what was, by OID, so that names may change and a
// later process can put it back. Each is put back before a schema change that could be about it, and then
// held again.
const holdSchema = "tidemark_replay"

// Kinds of what is held.
const (
	holdTrigger  = "t"
	holdRule     = "r"
	holdEvent    = "e"
	holdIdentity = "i"
)

// hold is one thing held back.
type hold struct {
	kind     string
	relation string // OID on the target; "0" for event triggers
	object   string // OID of the trigger, rule or event trigger; number of the column
	state    string // A, R, or for identity columns a
	source   string // OID of the relation at the source, where it is known
}

// holds are all that is held. They change on the worker's goroutine, inside its transaction.
type holds struct {
	all     []hold
	renamed []rename          // in order
	made    bool              // the tables are there
	known   map[uint32]uint32 // tables of the target by their OIDs at the source
	knownIn string            // Options.Known
	within  string            // the schema that the tables are in, and everything else; "": in one of their own
}

// table names one of the tables that remember, in SQL. A database that is restored into a schema of may be
// archived itself: nothing of ours shall stay in it, or in its archive under a name that all targets use.
func (h *holds) table(name string) string {
	if h.within != "" {
		return sqltext.QuoteIdent(h.within) + ".tidemark_" + name
	}
	return holdSchema + "." + name
}

// readOwn reads columns of a table that Tidemark keeps on a target; nothing where it isn't there, or isn't its own.
func readOwn(ctx context.Context, conn *pgconn.PgConn, table, columns string) ([][][]byte, error) {
	rows, err := queryOn(ctx, conn, session.OwnTableSQL, table)
	if err != nil || len(rows) == 0 || string(rows[0][0]) != "1" {
		return nil, err
	}
	return queryOn(ctx, conn, "select "+columns+" from "+table)
}

// read gets what the target's table says.
func (h *holds) read(ctx context.Context, conn *pgconn.PgConn) error {
	h.all, h.renamed, h.made = nil, nil, false
	rows, err := queryOn(ctx, conn, session.OwnTableSQL, h.table("held"))
	if err != nil || len(rows) == 0 {
		return fault.Wrap(err, codeOf(err), "", "read what is held back on the target")
	}
	if string(rows[0][0]) != "1" {
		return fault.New(fault.Failed, "drop it, or rename its schema", "%s on the target is not a replay's: it belongs to another role", h.table("held"))
	}
	h.made = true
	rows, err = queryOn(ctx, conn, "select kind, relation::text, object::text, state, source::text from "+h.table("held"))
	for _, r := range rows {
		h.all = append(h.all, hold{string(r[0]), string(r[1]), string(r[2]), string(r[3]), string(r[4])})
	}
	if err != nil {
		return fault.Wrap(err, codeOf(err), "", "read what is held back on the target")
	}
	return h.readRenamed(ctx, conn)
}

// prepare makes the tables that remember.
func (h *holds) prepare(ctx context.Context, conn *pgconn.PgConn) error {
	if h.made {
		return nil
	}
	sql := "CREATE TABLE " + h.table("held") + ` (kind text, relation oid, object oid, state text, source oid); ` +
		"CREATE TABLE " + h.table("renamed") + ` (n bigint GENERATED ALWAYS AS IDENTITY, namespace text, name text, to_namespace text, to_name text)`
	if h.within == "" {
		sql = "CREATE SCHEMA " + holdSchema + "; " + sql
	}
	if _, err := conn.Exec(ctx, sql).ReadAll(); err != nil {
		return fault.Wrap(err, codeOf(err), "", "remember what is held back on the target")
	}
	h.made = true
	return nil
}

// firing finds what fires for replicas too. Event triggers of a login fire for everyone.
const firing = `
select 't', g.tgrelid::text, g.oid::text, g.tgenabled::text from pg_catalog.pg_trigger g
join pg_catalog.pg_class c on c.oid = g.tgrelid join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where not g.tgisinternal and g.tgenabled in ('A', 'R') and ($1 = '' or n.nspname = $1)
union all
select 'r', r.ev_class::text, r.oid::text, r.ev_enabled::text from pg_catalog.pg_rewrite r
join pg_catalog.pg_class c on c.oid = r.ev_class join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where r.ev_enabled in ('A', 'R') and r.rulename <> '_RETURN' and ($1 = '' or n.nspname = $1)
union all
select 'e', '0', e.oid::text, e.evtenabled::text from pg_catalog.pg_event_trigger e
join pg_catalog.pg_proc p on p.oid = e.evtfoid join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where (e.evtenabled in ('A', 'R') or e.evtevent = 'login' and e.evtenabled <> 'D') and $1 = '' and n.nspname <> 'tidemark'`

// take holds back what fires now, in one schema or ("") all.
func (h *holds) take(ctx context.Context, conn *pgconn.PgConn, within string) error {
	rows, err := queryOn(ctx, conn, firing, within)
	if err != nil {
		return fault.Wrap(err, codeOf(err), "", "look for triggers that fire for replicas")
	}
	list := make([]hold, len(rows))
	for i, r := range rows {
		list[i] = hold{kind: string(r[0]), relation: string(r[1]), object: string(r[2]), state: string(r[3]), source: "0"}
		// To hold back anything else, even to remember it, would fire them.
		if list[i].kind == holdEvent {
			if err := set(ctx, conn, list[i], false); err != nil {
				return err
			}
		}
	}
	for _, x := range list {
		if err := h.add(ctx, conn, x); err != nil {
			return err
		}
	}
	return nil
}

// Hold holds back what fires for replicas, in a transaction of its own. In one schema, or with "" in all.
func Hold(ctx context.Context, conn *pgconn.PgConn, within string) error {
	if _, err := conn.Exec(ctx, "BEGIN").ReadAll(); err != nil {
		return fault.Wrap(err, codeOf(err), "", "begin a transaction")
	}
	h := holds{within: within}
	err := h.read(ctx, conn)
	if err == nil {
		err = h.take(ctx, conn, within)
	}
	if err != nil {
		_, _ = conn.Exec(ctx, "ROLLBACK").ReadAll() // the error says why
		return err
	}
	_, err = conn.Exec(ctx, "COMMIT").ReadAll()
	return fault.Wrap(err, codeOf(err), "", "hold back what fires for replicas")
}

// add holds one thing back and remembers it.
func (h *holds) add(ctx context.Context, conn *pgconn.PgConn, x hold) error {
	if err := h.prepare(ctx, conn); err != nil {
		return err
	}
	if err := set(ctx, conn, x, false); err != nil {
		return err
	}
	h.all = append(h.all, x)
	_, err := queryOn(ctx, conn, "insert into "+h.table("held")+" values ($1, $2::oid, $3::oid, $4, $5::oid)", x.kind, x.relation, x.object, x.state, x.source)
	return fault.Wrap(err, codeOf(err), "", "remember what is held back on the target")
}

// lift puts back what a schema change could be about.
func (h *holds) lift(ctx context.Context, conn *pgconn.PgConn, m *ddl.Message) error {
	var kept []hold
	for _, x := range h.all {
		if !concerns(x, m) {
			kept = append(kept, x)
			continue
		}
		if err := set(ctx, conn, x, true); err != nil {
			return err
		}
		if _, err := queryOn(ctx, conn, "delete from "+h.table("held")+" where kind = $1 and relation = $2::oid and object = $3::oid", x.kind, x.relation, x.object); err != nil {
			return err
		}
	}
	h.all = kept
	return nil
}

func concerns(x hold, m *ddl.Message) bool {
	switch x.kind {
	case holdTrigger, holdRule:
		return len(m.State) > 0 || strings.Contains(m.Tag, "TABLE") || strings.Contains(m.Tag, "TRIGGER") || strings.Contains(m.Tag, "RULE") || strings.Contains(m.Tag, "VIEW")
	case holdIdentity:
		// CREATE TABLE may take it over: LIKE ... INCLUDING IDENTITY, and PARTITION OF from 17 on.
		return x.source == "0" || m.Tag == "CREATE TABLE" || slices.ContainsFunc(m.Objects, func(o ddl.Object) bool { return itoa(int64(o.OID)) == x.source }) ||
			slices.ContainsFunc(m.State, func(st ddl.RelationState) bool { return itoa(int64(st.OID)) == x.source })
	}
	return false
}

// set holds a thing back, or puts it back.
func set(ctx context.Context, conn *pgconn.PgConn, x hold, back bool) error {
	sql, err := setting(ctx, conn, x, back)
	if err == nil {
		_, err = conn.Exec(ctx, sql).ReadAll()
	}
	return fault.Wrap(err, codeOf(err), "", "hold back or put back a trigger, a rule or an identity column")
}

// Queries for the statement that changes a thing with an OID; {} is what becomes of it.
const (
	alterTrigger = `select format('ALTER TABLE ONLY %I.%I {} TRIGGER %I', n.nspname, c.relname, g.tgname) from pg_catalog.pg_trigger g
join pg_catalog.pg_class c on c.oid = g.tgrelid join pg_catalog.pg_namespace n on n.oid = c.relnamespace where g.oid = $1::oid and $2::text is not null`
	alterRule = `select format('ALTER TABLE ONLY %I.%I {} RULE %I', n.nspname, c.relname, r.rulename) from pg_catalog.pg_rewrite r
join pg_catalog.pg_class c on c.oid = r.ev_class join pg_catalog.pg_namespace n on n.oid = c.relnamespace where r.oid = $1::oid and $2::text is not null`
	alterEvent    = `select format('ALTER EVENT TRIGGER %I {}', evtname) from pg_catalog.pg_event_trigger where oid = $1::oid and $2::text is not null`
	alterIdentity = `select format('ALTER TABLE %I.%I ALTER COLUMN %I SET GENERATED {}', n.nspname, c.relname, a.attname) from pg_catalog.pg_attribute a
join pg_catalog.pg_class c on c.oid = a.attrelid join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where a.attnum = $1::int2 and c.oid = $2::oid and not a.attisdropped and a.attidentity <> ''`
)

// setting gives the statement that holds a thing back, or puts it back, by its OID; "" if it is gone.
func setting(ctx context.Context, conn *pgconn.PgConn, x hold, back bool) (string, error) {
	query, word := map[string]string{holdTrigger: alterTrigger, holdRule: alterRule, holdEvent: alterEvent, holdIdentity: alterIdentity}[x.kind], "DISABLE"
	switch {
	case x.kind == holdIdentity && back:
		word = "ALWAYS"
	case x.kind == holdIdentity:
		word = "BY DEFAULT"
	case back:
		word = map[string]string{"A": "ENABLE ALWAYS", "R": "ENABLE REPLICA", "O": "ENABLE"}[x.state]
	}
	rows, err := queryOn(ctx, conn, strings.Replace(query, "{}", word, 1), x.object, x.relation)
	if err != nil || len(rows) == 0 {
		return "", err
	}
	return string(rows[0][0]), nil
}

// hold holds back what fires for replicas, in a transaction of its own.
func (a *Applier) hold() error {
	do := func(ctx context.Context, w *worker) error {
		if a.opts.Schema != nil {
			a.holds.within = a.opts.Schema.Within
			if err := w.session.read(ctx, w.conn); err != nil {
				return err
			}
		}
		if err := a.holds.recognise(ctx, w.conn, a.opts.Sources, a.opts.Known); err != nil {
			return err
		}
		if err := a.holds.read(ctx, w.conn); err != nil || a.opts.Schema == nil {
			return err
		}
		if a.opts.Atomic != nil {
			if err := errors.Join(a.readLabels(ctx, w.conn), a.readLately(ctx, w.conn)); err != nil {
				return err
			}
		}
		return a.holds.take(ctx, w.conn, a.opts.Schema.Within)
	}
	return a.sendWait(a.workers[0], command{do: do, commit: true})
}

// unlock lets updates assign the identity columns of a table, and of the partition tree it is in, that are
// GENERATED ALWAYS. It locks them all: in parallel nobody else may be at work.
func (a *Applier) unlock(t *table, source uint32) error {
	if err := a.barrier(); err != nil {
		return err
	}
	do := func(ctx context.Context, w *worker) error {
		rows, err := queryOn(ctx, w.conn, `
select a.attrelid::text, a.attnum::text from pg_catalog.pg_attribute a
where a.attrelid = coalesce(pg_catalog.pg_partition_root($1::oid::regclass), $1::oid::regclass) and a.attidentity = 'a' and not a.attisdropped`, itoa(int64(t.oid)))
		if err != nil {
			return fault.Wrap(err, codeOf(err), "", "look for identity columns of %s", t.name)
		}
		for _, r := range rows {
			x := hold{kind: holdIdentity, relation: string(r[0]), object: string(r[1]), state: "a", source: itoa(int64(source))}
			if x.relation != itoa(int64(t.oid)) {
				x.source = "0" // the root, whose number at the source isn't known here
			}
			if err := a.holds.add(ctx, w.conn, x); err != nil {
				return err
			}
		}
		return nil
	}
	t.always = false
	return a.sendWait(a.workers[0], command{do: do, commit: a.opts.Atomic == nil})
}

// Release puts back what replay held back in a database, event triggers last, and forgets it, in one
// transaction. The session must let no event trigger fire. Without anything held it does nothing.
func Release(ctx context.Context, conn *pgconn.PgConn) error {
	if _, err := conn.Exec(ctx, "BEGIN").ReadAll(); err != nil {
		return fault.Wrap(err, codeOf(err), "", "begin a transaction")
	}
	last, err := PutBack(ctx, conn, "")
	if err != nil {
		_, _ = conn.Exec(ctx, "ROLLBACK").ReadAll() // the error says why
		return err
	}
	_, err = conn.Exec(ctx, last+"COMMIT").ReadAll()
	return fault.Wrap(err, codeOf(err), "", "put back what was held back")
}

// PutBack puts back what replay held back in a database, or in one schema of it (Schema.Within), and forgets it. The caller's transaction is open and
// lets no event trigger fire; what puts the event triggers back is returned, to be run last of all. Without
// anything held it does nothing.
func PutBack(ctx context.Context, conn *pgconn.PgConn, within string) (last string, err error) {
	h := holds{within: within}
	if err := h.read(ctx, conn); err != nil || !h.made {
		return "", err
	}
	for _, x := range h.all {
		sql, err := setting(ctx, conn, x, true)
		if err == nil && x.kind == holdEvent {
			last += sql + ";\n"
			continue
		}
		if err == nil {
			_, err = conn.Exec(ctx, sql).ReadAll()
		}
		if err != nil {
			return "", fault.Wrap(err, codeOf(err), "", "put back what was held back")
		}
	}
	forget := "DROP SCHEMA " + holdSchema + " CASCADE"
	if within != "" {
		forget = "DROP TABLE " + h.table("held") + ", " + h.table("renamed")
	}
	_, err = conn.Exec(ctx, forget).ReadAll()
	return last, fault.Wrap(err, codeOf(err), "", "forget what was held back")
}
