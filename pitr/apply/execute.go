package apply

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/internal/ddl"
	"tidemark/internal/fault"
	"tidemark/internal/sqltext"
	"tidemark/segment"
)

// execution makes one schema change on a worker's connection, inside its transaction. It is undone as a
// whole if it fails.
type execution struct {
	schema  *Schema
	message *ddl.Message
	holds   *holds
	choice  Choice
	source  segment.Begin
	atomic  bool // the transaction goes on after it
	early   bool // it ran before the base snapshot was taken: what is here may be younger
	alone   bool // the source read the state of relations with all changes in it that are here already
	session *sessionState
	told    map[string]bool // notes of all changes that are made once
	unseen  namings         // made here already, and certainly not known to the statement
	overlap namings         // that it may not have known
	latest  namings         // overlap, and those that it may have waited for
	wide    int             // so many of latest, the newest, count too
	doomed  map[int]doomed  // what is here of the message's Dropped
	lenient bool            // some of that is nowhere

	failed  error    // the server refused it, or what it made is not what the source made; it was undone
	emptied []uint32 // tables that an extension's script may have filled: their rows come with the stream
	steps   []naming // what it gave other names
}

// run makes the change. An error is one of the connection; a refusal is left in failed.
func (e *execution) run(ctx context.Context, w *worker) error {
	// What is temporary goes: the statement may leave something of its own that must not be taken for ours.
	clear(w.wide)
	e.session = &w.session
	if err := w.exec(ctx, "DISCARD TEMP; SAVEPOINT tidemark_change"); err != nil {
		return fault.Wrap(err, codeOf(err), "", "%s", describeChange(e.message, e.source))
	}
	err := e.make(ctx, w.conn)
	if err != nil && missesSomething(err) {
		err = e.makeAsNamedBefore(ctx, w, err)
	}
	// PREPARE isn't undone with anything, and a statement of ours may have had another put in its place.
	clear(w.prepared)
	if err == nil {
		return w.exec(ctx, "RELEASE SAVEPOINT tidemark_change; DEALLOCATE ALL")
	}
	if codeOf(err) == fault.Unreachable || ctx.Err() != nil {
		return err
	}
	e.failed, e.emptied = err, nil
	return errors.Join(w.exec(ctx, "ROLLBACK TO SAVEPOINT tidemark_change; RELEASE SAVEPOINT tidemark_change; DEALLOCATE ALL"), e.holds.read(ctx, w.conn))
}

// makeAsNamedBefore tries again with names given back, one more each time: a thing may have had several names of late, and the
// statement knew one of them. What is never found under any must not keep the rest from being made. Where none helps the first
// error stays.
func (e *execution) makeAsNamedBefore(ctx context.Context, w *worker, first error) error {
	again := func() (done bool, err error) {
		if err := errors.Join(w.exec(ctx, "ROLLBACK TO SAVEPOINT tidemark_change"), e.holds.read(ctx, w.conn)); err != nil {
			return true, err
		}
		err = e.make(ctx, w.conn)
		return err == nil || codeOf(err) == fault.Unreachable || ctx.Err() != nil, err
	}
	for e.wide = 1; e.wide <= len(e.latest); e.wide++ {
		if done, err := again(); done {
			return err
		}
	}
	if !errors.Is(first, errUnknown) {
		return first
	}
	e.lenient = true
	for e.wide = 0; e.wide <= len(e.latest); e.wide++ {
		done, err := again()
		if done {
			return err
		}
		if e.wide == 0 {
			first = err
		}
	}
	return first
}

func (e *execution) make(ctx context.Context, conn *pgconn.PgConn) error {
	if err := e.holds.lift(ctx, conn, e.message); err != nil {
		return err
	}
	if err := e.dropHelpers(ctx, conn); err != nil {
		return err
	}
	unseen, err := undoNames(ctx, conn, e.unseen)
	if err != nil {
		return err
	}
	if err := e.asNamed(ctx, conn); err != nil {
		return err
	}
	if err := e.present(ctx, conn, e.message.Objects); err != nil {
		return err
	}
	if err := e.gone(ctx, conn); err != nil {
		return err
	}
	if err := e.clearExtension(ctx, conn); err != nil {
		return err
	}
	if err := e.settleCopies(ctx, conn); err != nil {
		return err
	}
	if err := e.compare(ctx, conn); err != nil {
		return err
	}
	if err := e.mendRights(ctx, conn); err != nil {
		return err
	}
	if err := e.holds.learn(ctx, conn, e.message); err != nil {
		return err
	}
	if err := redoNames(ctx, conn, unseen); err != nil {
		return err
	}
	if err := forgetBounds(ctx, conn, e.message); err != nil {
		return err
	}
	if err := e.holds.remember(ctx, conn, e.steps); err != nil {
		return err
	}
	return e.holds.take(ctx, conn, e.schema.Within)
}

// asNamed executes the change's statement, with the names that it knew.
func (e *execution) asNamed(ctx context.Context, conn *pgconn.PgConn) error {
	var latest namings
	if e.wide > 0 {
		var err error
		if latest, err = undoNames(ctx, conn, e.latest[len(e.latest)-e.wide:]); err != nil {
			return err
		}
	}
	sql, err := e.reduce(ctx, conn, e.statement())
	if err != nil {
		return err
	}
	if err := e.present(ctx, conn, e.message.Dropped); err != nil {
		return err
	}
	if err := e.doom(ctx, conn); err != nil {
		return err
	}
	var before map[[2]string]placed
	if sql != "" && givesNames(e.message) {
		if before, err = readNames(ctx, conn, e.message); err != nil {
			return err
		}
	}
	if sql != "" {
		err := e.droppingNoMore(ctx, conn, func() error { return e.attempts(ctx, conn, sql) })
		if err != nil {
			err = e.withoutRows(ctx, conn, err)
		}
		if err != nil {
			return err
		}
		if err := e.nameChosen(ctx, conn); err != nil {
			return err
		}
	}
	if err := e.noteFilling(ctx, conn); err != nil {
		return err
	}
	if before != nil {
		if e.steps, err = e.named(ctx, conn, before); err != nil {
			return err
		}
	}
	return redoNames(ctx, conn, latest)
}

// dropHelpers drops the replay's own indexes of the tables that the change is about.
func (e *execution) dropHelpers(ctx context.Context, conn *pgconn.PgConn) error {
	if len(e.schema.Helpers) == 0 || isPrivilege(e.message) {
		return nil
	}
	drop := func(oid uint32) error {
		here, ok := e.schema.Helpers[oid]
		if !ok {
			return nil
		}
		return DropHelper(ctx, conn, oid, here)
	}
	for _, o := range e.message.Objects {
		if err := drop(o.OID); err != nil {
			return err
		}
	}
	for _, st := range e.message.State {
		if err := drop(st.OID); err != nil {
			return err
		}
	}
	return nil
}

// statement returns what is executed for the change; "" if nothing needs to be.
func (e *execution) statement() string {
	m, s := e.message, e.schema
	switch {
	case m.Tag == "CREATE SCHEMA" && (s.NoOwner || s.NoPrivileges):
		return bareSchema(m, m.SQL, s.NoOwner, s.NoPrivileges)
	case strings.HasPrefix(m.Tag, "ALTER "):
		sql := certain(m, m.SQL)
		if s.NoOwner {
			sql = withoutOwner(m, sql)
		}
		return sql
	case m.Tag == "DROP OWNED" && s.NoOwner:
		return e.dropOwned()
	}
	if m.Tag == "DROP INDEX" {
		return dropIndex.ReplaceAllString(m.SQL, "DROP INDEX IF EXISTS ")
	}
	if sql, filled, ok := filling(m); ok && e.schema.Empty != nil {
		if filled && m.Tag == "REFRESH MATERIALIZED VIEW" {
			return ""
		}
		return sql
	}
	return m.SQL
}

// dropIndex is the head of DROP INDEX. What CREATE INDEX CONCURRENTLY leaves behind where it fails is an index
// that no message tells of, and no dump holds: the first that is heard of it is that it was dropped.
var dropIndex = regexp.MustCompile(`(?i)^DROP\s+INDEX\s+(IF\s+EXISTS\s+)?`)

// maxAttempts bounds how often a statement is tried with one more thing put right: a role that is missing,
// a tablespace that isn't there.
const maxAttempts = 20

// attempts executes the statement as the role that executed it at the source, with the rights that ways tells.
func (e *execution) attempts(ctx context.Context, conn *pgconn.PgConn, sql string) error {
	ways := e.ways()
	for range maxAttempts {
		err := e.attempt(ctx, conn, sql, ways[0])
		pgErr, ok := errors.AsType[*pgconn.PgError](err)
		if err == nil || !ok {
			return err
		}
		switch {
		case pgErr.Code == "42501":
			if left := more(ways, err); ways[0] != theirs && len(left) > 0 {
				ways = left
				continue
			}
			return e.lacks(err)
		case missingRole(pgErr) != "" && !(e.schema.NoOwner && e.schema.NoPrivileges):
			if makeErr := e.makeRole(ctx, conn, missingRole(pgErr)); makeErr != nil {
				return errors.Join(err, makeErr)
			}
		case dropsRoutine[e.message.Tag] && lacksRoutine(pgErr):
			// One over a temporary type is never captured, as it goes with that; only its DROP is. If that dropped something else as
			// well, it is found to be left (gone).
			e.tell(describeChange(e.message, e.source) + " had nothing to drop: " + err.Error())
			return nil
		case pgErr.Code == "42704" && pgErr.Routine == "get_tablespace_oid":
			without := withoutTablespace(sql)
			if without == "" {
				return nil // tablespaces are not restored
			}
			if without == sql {
				return err
			}
			sql = without
		default:
			return err
		}
	}
	return errors.New("gave up after " + itoa(maxAttempts) + " attempts")
}

func (e *execution) makeRole(ctx context.Context, conn *pgconn.PgConn, name string) error {
	if _, err := queryOn(ctx, conn, "CREATE ROLE "+sqltext.QuoteIdent(name)+" NOLOGIN"); err != nil {
		return err
	}
	e.tell("role " + sqltext.QuoteIdent(name) + " was missing and was made without login, password and rights over the server")
	return nil
}

var (
	tablespace = regexp.MustCompile(`(?i)\b(USING\s+INDEX\s+)?TABLESPACE\s+(?-i:("(?:[^"]|"")+"|[^\s;,()"]+))`)
	quotedName = regexp.MustCompile(`^[^"]*"(.*)"[^"]*$`)
)

// lacksRoutine reports whether the server doesn't know a routine, or a type in its name, or that type's schema.
func lacksRoutine(e *pgconn.PgError) bool {
	return e.Code == "42883" || e.Code == "3F000" || e.Code == "42704" && e.Routine == "LookupTypeNameOid"
}

var dropsRoutine = map[string]bool{"DROP FUNCTION": true, "DROP PROCEDURE": true, "DROP ROUTINE": true, "DROP AGGREGATE": true}

// missingRole returns the name of a role that the server says it lacks, whatever language it speaks.
func missingRole(e *pgconn.PgError) string {
	if e.Code != "42704" && e.Code != "22023" || e.Routine != "get_role_oid" && e.Routine != "get_rolespec_oid" && e.Routine != "call_string_check_hook" && e.Routine != "check_role" {
		return ""
	}
	if m := quotedName.FindStringSubmatch(e.Message); m != nil && e.Code == "42704" {
		return m[1]
	}
	return ""
}

// attempt executes the statement in a savepoint.
func (e *execution) attempt(ctx context.Context, conn *pgconn.PgConn, sql string, with rights) error {
	run := func(sql string) error {
		_, err := conn.Exec(ctx, sql).ReadAll()
		return err
	}
	if err := run("SAVEPOINT tidemark_attempt"); err != nil {
		return err
	}
	if err := e.execute(ctx, conn, sql, with); err != nil {
		if undo := run("ROLLBACK TO SAVEPOINT tidemark_attempt; RELEASE SAVEPOINT tidemark_attempt"); undo != nil {
			return undo
		}
		return err
	}
	return run("RELEASE SAVEPOINT tidemark_attempt")
}

// execute runs the statement with the settings that it had at the source, and leaves the session as it was.
func (e *execution) execute(ctx context.Context, conn *pgconn.PgConn, sql string, with rights) (err error) {
	run := func(sql string) error {
		_, err := conn.Exec(ctx, sql).ReadAll()
		return err
	}
	role := e.message.User
	if with != theirs {
		if err := e.exists(ctx, conn, role); err != nil {
			return err
		}
	}
	var undo []string
	switch with {
	case lent:
		undo, err = e.lend(ctx, conn, role)
	case raised:
		undo, err = e.raise(ctx, conn, role)
	}
	if err != nil {
		return err
	}
	if with != theirs && role != e.session.user {
		if err := take(ctx, conn, role, sql); err != nil {
			return err
		}
		sql = "SELECT " + changeFunction
	}
	if err := e.under(ctx, conn); err != nil {
		return err
	}
	if err := run(sql); err != nil {
		return err
	}
	if err := e.session.restore(ctx, conn); err != nil {
		return err
	}
	if len(undo) > 0 {
		if err := run(strings.Join(undo, "; ")); err != nil {
			return err
		}
	}
	if with == theirs && !e.schema.NoOwner {
		return e.giveAway(ctx, conn)
	}
	return nil
}

// Settings that stay as replay has them: function bodies may name what comes later, and tablespaces are
// not restored.
var keptSettings = map[string]bool{"check_function_bodies": true, "default_tablespace": true, "temp_tablespaces": true, "session_replication_role": true, "role": true}

// carried are the settings that the statement runs under. Plans are free, as they are not for rows. Policies hold, as at the source: a view that is filled
// reads what its owner may see. In the search path stands the name of the role that ran it, whoever runs it here.
func (e *execution) carried() map[string]string {
	out := map[string]string{"row_security": "on", "enable_seqscan": "on", "enable_hashjoin": "on", "enable_mergejoin": "on"}
	for k, v := range e.message.Settings {
		if !keptSettings[strings.ToLower(k)] {
			out[k] = v
		}
	}
	if path, ok := out["search_path"]; ok && e.message.User != "" {
		out["search_path"] = ownSchema.ReplaceAllLiteralString(path, sqltext.QuoteIdent(e.message.User))
	}
	return out
}

var ownSchema = regexp.MustCompile(`"\$user"|\$user\b`)

// under takes on the settings of the source's session. Settings that this server doesn't know are passed over.
func (e *execution) under(ctx context.Context, conn *pgconn.PgConn) error {
	carried, err := json.Marshal(e.carried())
	if err != nil {
		return err
	}
	_, err = queryOn(ctx, conn, `
select set_config(key, value, true) from json_each_text($1::json)
where current_setting(key, true) is not null`, string(carried))
	return err
}

// exists fails as the server does where a role is missing.
func (e *execution) exists(ctx context.Context, conn *pgconn.PgConn, role string) error {
	rows, err := queryOn(ctx, conn, "select 1 from pg_catalog.pg_roles where rolname = $1", role)
	if err == nil && len(rows) == 0 {
		err = &pgconn.PgError{Code: "42704", Routine: "get_role_oid", Message: fmt.Sprintf("role %q does not exist", role)}
	}
	return err
}

// ownable are the kinds of objects that have an owner, with their name in ALTER … OWNER TO.
var ownable = map[string]string{
	"table": "TABLE", "view": "VIEW", "materialized view": "MATERIALIZED VIEW", "foreign table": "FOREIGN TABLE", "sequence": "SEQUENCE",
	"type": "TYPE", "composite type": "TYPE", "domain": "DOMAIN", "function": "FUNCTION", "procedure": "PROCEDURE", "aggregate": "AGGREGATE",
	"operator": "OPERATOR", "operator class": "OPERATOR CLASS", "operator family": "OPERATOR FAMILY", "schema": "SCHEMA", "collation": "COLLATION",
	"conversion": "CONVERSION", "text search dictionary": "TEXT SEARCH DICTIONARY", "text search configuration": "TEXT SEARCH CONFIGURATION",
	"statistics object": "STATISTICS", "language": "LANGUAGE", "foreign-data wrapper": "FOREIGN DATA WRAPPER", "server": "SERVER", "publication": "PUBLICATION",
}

// giveAway gives what the statement made, as the connecting role, to the role that made it at the source.
func (e *execution) giveAway(ctx context.Context, conn *pgconn.PgConn) error {
	m := e.message
	if !strings.HasPrefix(m.Tag, "CREATE") && !strings.HasPrefix(m.Tag, "SELECT") && !strings.HasPrefix(m.Tag, "IMPORT") || m.User == "" || strings.HasPrefix(m.Tag, "CREATE OR REPLACE") {
		return nil
	}
	for _, o := range m.Objects {
		kind, ok := ownable[o.Type]
		if !ok || o.Extension {
			continue
		}
		if o.Type == "sequence" {
			rows, err := queryOn(ctx, conn, "select 1 from pg_catalog.pg_depend where classid = 'pg_catalog.pg_class'::regclass and objid = $1::regclass and deptype in ('a', 'i')", o.Identity)
			if err != nil {
				return err
			}
			if len(rows) > 0 {
				continue // belongs to a column, and follows its table
			}
		}
		if err := e.giveOne(ctx, conn, kind+" "+o.Identity); err != nil {
			return err
		}
	}
	return nil
}

// giveOne gives one object to the role that made it at the source. What only a superuser may own, such as a foreign-data
// wrapper, stays with the connecting role where that one is none: no replay makes superusers.
func (e *execution) giveOne(ctx context.Context, conn *pgconn.PgConn, object string) error {
	_, err := conn.Exec(ctx, "SAVEPOINT tidemark_owner; ALTER "+object+" OWNER TO "+sqltext.QuoteIdent(e.message.User)+"; RELEASE SAVEPOINT tidemark_owner").ReadAll()
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); !ok || pgErr.Code != "42501" {
		return err
	}
	if _, err := conn.Exec(ctx, "ROLLBACK TO SAVEPOINT tidemark_owner; RELEASE SAVEPOINT tidemark_owner").ReadAll(); err != nil {
		return err
	}
	e.tell(object + " could not be given to role " + sqltext.QuoteIdent(e.message.User) + ": " + err.Error())
	return nil
}

// clearExtension empties tables that an extension's script made: what it put in comes with the stream.
func (e *execution) clearExtension(ctx context.Context, conn *pgconn.PgConn) error {
	if e.message.Tag != "CREATE EXTENSION" {
		return nil
	}
	for _, o := range e.message.Objects {
		if o.Type != "table" || !o.Extension {
			continue
		}
		rows, err := queryOn(ctx, conn, "select oid::text from pg_catalog.pg_class where oid = to_regclass($1) and relkind in ('r', 'p') and relpersistence = 'p'", o.Identity)
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			continue
		}
		if _, err := conn.Exec(ctx, "TRUNCATE "+o.Identity).ReadAll(); err != nil {
			return err
		}
		e.emptied = append(e.emptied, uint32(atoi(rows[0][0])))
	}
	return nil
}

// tellOnce tells what is true of many changes.
func (e *execution) tellOnce(note string) {
	if !e.told[note] {
		e.told[note] = true
		e.tell(note)
	}
}

func (e *execution) tell(note string) {
	if e.schema.Note != nil {
		e.schema.Note(note)
	}
}

// About names what a change was about.
func About(m *ddl.Message) string {
	for _, list := range [][]ddl.Object{m.Objects, m.Dropped} {
		for _, o := range list {
			if !o.Extension || len(list) == 1 {
				return o.Type + " " + o.Identity
			}
		}
	}
	return strings.Join(m.Tables, ", ")
}

// keptQueries is where a connection's CustomData has what queryKept has prepared, text to name.
const keptQueries = "tidemark.kept"

// queryKept is queryOn for constant texts that ask the catalog again and again, on a connection that runs nobody else's
// statements: they take longer to plan than to run, and stay prepared.
func queryKept(ctx context.Context, conn *pgconn.PgConn, sql string, params ...string) ([][][]byte, error) {
	kept, _ := conn.CustomData()[keptQueries].(map[string]string)
	if kept == nil {
		kept = map[string]string{}
		conn.CustomData()[keptQueries] = kept
	}
	name, ok := kept[sql]
	if !ok {
		name = "tidemark_" + strconv.Itoa(len(kept))
		if _, err := conn.Prepare(ctx, name, sql, nil); err != nil {
			return nil, err
		}
		kept[sql] = name
	}
	res := conn.ExecPrepared(ctx, name, inText(params), nil, nil).Read()
	return res.Rows, res.Err
}

// queryOn runs a query with text parameters and results.
func queryOn(ctx context.Context, conn *pgconn.PgConn, sql string, params ...string) ([][][]byte, error) {
	res := conn.ExecParams(ctx, sql, inText(params), nil, nil, nil).Read()
	return res.Rows, res.Err
}

func inText(params []string) [][]byte {
	values := make([][]byte, len(params))
	for i, p := range params {
		values[i] = []byte(p)
	}
	return values
}
