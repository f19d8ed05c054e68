package pitr

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/catalog"
	"tidemark/internal/basesnapshot"
	"tidemark/internal/fault"
	"tidemark/internal/sqltext"
	"tidemark/pitr/session"
	"tidemark/segment"
)

// setSequences gives sequences a value that no row uses: sequences are not part of the stream, and are
// read only from time to time. What is furthest counts: the first sample taken at or after the target, the last one before it (TRUNCATE, setval or
// a schema change may have set the sequence back after the target), and what the columns hold.
func (r *run) setSequences(ctx context.Context, conn *pgconn.PgConn) error {
	if r.o.SchemaOnly {
		return nil
	}
	if !slices.ContainsFunc(r.manifest.Sequences, r.hasSequence) {
		return nil
	}
	states, earlier, at, err := r.sequenceStates(ctx)
	if err != nil {
		return err
	}
	short := 0
	for _, s := range r.manifest.Sequences {
		name := segment.QualifiedName(s.Namespace, s.Name)
		if !r.hasSequence(s) {
			continue
		}
		state, ok := states[name]
		if !ok {
			state = s.Sequence
		}
		states := []segment.Sequence{state}
		if e, ok := earlier[name]; ok {
			states = append(states, e)
		}
		setBack, err := r.setSequence(ctx, conn, s, states...)
		if err != nil {
			return fault.Wrap(err, fault.CodeOf(err), "", "set sequence %s", name)
		}
		if setBack {
			r.note("sequence " + name + " was set back after the target: it is as of the last sample before that, or as high as its columns need")
		}
		short++
		r.advance(1)
	}
	r.noteSequences(at, short)
	return nil
}

// noteSequences tells if the newest sample of the sequences is older than the last commit restored.
func (r *run) noteSequences(at segment.LSN, sequences int) {
	kept := r.plan.LastKept
	if at < r.plan.Cut && sequences > 0 && r.plan.Transactions > 0 && (kept == nil || at <= kept.LSN) {
		r.note(fmt.Sprintf("no sample of the sequences at or after the target is archived: they are as of LSN %s, or as high as their columns need", at))
	}
}

// hasSequence reports whether the sequence is restored. For a restore of rows alone it should be there already: all that a chosen table
// uses are set, and without patterns those that stand by themselves as well.
func (r *run) hasSequence(s basesnapshot.Sequence) bool {
	refs := s.UsedBy
	if s.OwnedBy != nil {
		refs = append([]basesnapshot.ColumnRef{*s.OwnedBy}, refs...)
	}
	if r.o.DataOnly {
		used := slices.ContainsFunc(refs, func(c basesnapshot.ColumnRef) bool {
			return r.chosen.loads[segment.QualifiedName(c.Namespace, c.Table)]
		})
		if used || len(r.chosen.filter) > 0 {
			return used
		}
	}
	return slices.ContainsFunc(r.chosen.items, func(it basesnapshot.SchemaItem) bool {
		return it.Kind == "SEQUENCE" && it.Namespace == s.Namespace && it.Name == s.Name
	})
}

// sequenceStates finds the first samples at or after the target, by namespace.name, and the position they were taken at; without one
// the last before it. Earlier are the last before the target.
func (r *run) sequenceStates(ctx context.Context) (states, earlier map[string]segment.Sequence, at segment.LSN, err error) {
	states = map[string]segment.Sequence{}
	for _, s := range r.manifest.Sequences {
		states[segment.QualifiedName(s.Namespace, s.Name)] = s.Sequence
	}
	at = r.manifest.SequencesLSN
	if at >= r.plan.Cut {
		return states, nil, at, nil
	}
	// The values of a sample stand in the last segment, up to it, whose sample changed.
	var values, before *catalog.Entry
	for e, err := range r.o.Archive.stream(ctx, r.plan.History, r.plan.Snapshot.LSN, 0) {
		if err != nil {
			return nil, nil, 0, err
		}
		if e.Kind == catalog.KindGap {
			break
		}
		if e.Segment == nil || e.Segment.Sequences == nil || e.Segment.Sequences.LSN < at {
			continue
		}
		at = e.Segment.Sequences.LSN
		if e.Segment.Sequences.Changed {
			before, values = values, &e
		}
		if at >= r.plan.Cut {
			break
		}
	}
	if at < r.plan.Cut || values == nil || values.Segment.Sequences.LSN < r.plan.Cut {
		before = values
	}
	if at >= r.plan.Cut {
		earlier = maps.Clone(states)
		if err := r.sample(ctx, before, earlier); err != nil {
			return nil, nil, 0, err
		}
	}
	return states, earlier, at, r.sample(ctx, values, states)
}

// sample puts the sample of an entry, nil for none, into states.
func (r *run) sample(ctx context.Context, e *catalog.Entry, states map[string]segment.Sequence) error {
	if e == nil {
		return nil
	}
	x, err := r.o.Archive.index(ctx, *e, e.To)
	if err != nil {
		return err
	}
	for _, s := range x.Sequences {
		states[segment.QualifiedName(s.Namespace, s.Name)] = s
	}
	return nil
}

// setSequence sets one sequence to the state that is furthest in the direction it goes, past whatever its columns hold, and reports whether
// the first of the states is behind another.
func (r *run) setSequence(ctx context.Context, conn *pgconn.PgConn, s basesnapshot.Sequence, states ...segment.Sequence) (setBack bool, err error) {
	name := r.quoted(s.Namespace, s.Name)
	rows, err := session.Rows(ctx, conn, `
select s.seqincrement, s.seqmin, s.seqmax, s.seqcycle::int from pg_catalog.pg_sequence s where s.seqrelid = pg_catalog.to_regclass($1)`, name)
	if err != nil {
		return false, err
	}
	if len(rows) == 0 && r.o.DataOnly {
		r.note("the target has no sequence " + segment.QualifiedName(s.Namespace, s.Name) + ": its value is not restored")
		return false, nil
	}
	if len(rows) == 0 {
		return false, errors.New("it is not there")
	}
	descending := strings.HasPrefix(rows[0][0], "-")
	least, _ := strconv.ParseInt(rows[0][1], 10, 64)
	greatest, _ := strconv.ParseInt(rows[0][2], 10, 64)
	value, called := states[0].LastValue, states[0].IsCalled
	cycles := rows[0][3] == "1" // and starts again by design: neither its columns nor another sample say where it is
	for _, o := range states[1:] {
		if cycles {
			break
		}
		ahead := o.LastValue > value
		if descending {
			ahead = o.LastValue < value
		}
		setBack = setBack || ahead
		if ahead || o.LastValue == value && o.IsCalled {
			value, called = o.LastValue, o.IsCalled
		}
	}
	if !cycles {
		if value, called, err = r.pastColumns(ctx, conn, s, value, called, descending, least, greatest); err != nil {
			return false, err
		}
	}
	value = min(max(value, least), greatest)
	return setBack, session.Exec(ctx, conn, fmt.Sprintf("SELECT pg_catalog.setval(%s, %d, %t)", sqltext.QuoteLiteral(name), value, called))
}

func (r *run) pastColumns(ctx context.Context, conn *pgconn.PgConn, s basesnapshot.Sequence, value int64, called, descending bool, least, greatest int64) (int64, bool, error) {
	refs := slices.Clone(s.UsedBy)
	if s.OwnedBy != nil {
		refs = append(refs, *s.OwnedBy)
	}
	for _, c := range refs {
		if r.names != nil && !r.names.has(c.Namespace, c.Table) {
			continue // a live table's
		}
		n, ok, err := FurthestValue(ctx, conn, r.quoted(c.Namespace, c.Table), c.Column, descending, least, greatest)
		if err != nil {
			return 0, false, err
		}
		if !ok {
			continue
		}
		ahead := n > value || n == value && !called
		if descending {
			ahead = n < value || n == value && !called
		}
		if ahead {
			value, called = n, true
		}
	}
	return value, called, nil
}

// listSettings are the settings whose stored value is a list of names, quoted already
// (GUC_LIST_QUOTE in src/backend/utils/misc/guc_tables.c). Unquoted names in those of the first two are folded.
var listSettings = []string{"search_path", "temp_tablespaces", "local_preload_libraries", "session_preload_libraries", "shared_preload_libraries", "unix_socket_directories"}

// A name in a list: quoted, or up to the comma.
var listElement = regexp.MustCompile(`\s*(?:"((?:[^"]|"")*)"|([^\s,"]*))\s*(?:,|$)`)

// settingValue is the stored value of a setting as SET takes it: a list as one constant for each name (makeAlterConfigCommand in
// src/bin/pg_dump/dumputils.c). The names as they stand could be none: that of an empty list is "".
func settingValue(name, value string) string {
	i := slices.Index(listSettings, strings.ToLower(name))
	if i < 0 {
		return sqltext.QuoteLiteral(value)
	}
	var list []string
	for _, m := range listElement.FindAllStringSubmatch(value, -1) {
		plain := m[2]
		if i < 2 {
			plain = strings.ToLower(plain)
		}
		list = append(list, sqltext.QuoteLiteral(plain+strings.ReplaceAll(m[1], `""`, `"`)))
	}
	return strings.Join(list, ", ")
}

// databaseSettings gives a database that the restore made the owner, limits, settings and rights of the
// source's.
func (r *run) databaseSettings(ctx context.Context, conn *pgconn.PgConn) error {
	d, name := r.manifest.Database, sqltext.QuoteIdent(r.place.name)
	var sql []string
	if !r.o.NoOwner && d.Owner != "" {
		sql = append(sql, "ALTER DATABASE "+name+" OWNER TO "+sqltext.QuoteIdent(d.Owner))
	}
	if d.ConnectionLimit > 0 {
		sql = append(sql, fmt.Sprintf("ALTER DATABASE %s CONNECTION LIMIT %d", name, d.ConnectionLimit))
	}
	for _, s := range d.Settings {
		if s.Redacted {
			r.note("setting " + s.Name + " of the database holds a secret that is not in the archive")
			continue
		}
		subject := "ALTER DATABASE " + name
		if s.Role != "" {
			if r.o.NoOwner && r.o.NoPrivileges {
				continue
			}
			subject = "ALTER ROLE " + sqltext.QuoteIdent(s.Role) + " IN DATABASE " + name
		}
		sql = append(sql, subject+" SET "+settingName(s.Name)+" TO "+settingValue(s.Name, s.Value))
	}
	for _, statement := range sql {
		err := session.Exec(ctx, conn, statement)
		if pgErr, ok := asPgError(err); ok && pgErr.Code == "42501" && !r.server.superuser {
			r.note("without superuser, left out: " + statement)
			continue
		}
		// A locale that this server lacks, or a parameter of a module that it lacks or of an older version.
		if pgErr, ok := asPgError(err); ok && (pgErr.Code == "22023" || pgErr.Code == "42704" || pgErr.Code == "42602") && strings.Contains(statement, " SET ") {
			r.note("not set: " + statement + ": " + pgErr.Message)
			continue
		}
		if err != nil {
			return fault.Wrap(err, fault.CodeOf(err), "", "settings of the database")
		}
	}
	if r.o.NoPrivileges || d.ACL == nil {
		return nil
	}
	return r.databasePrivileges(ctx, conn, name, d)
}

// settingName quotes a parameter's name; those of extensions have a dot.
func settingName(s string) string {
	parts := strings.Split(s, ".")
	for i := range parts {
		parts[i] = sqltext.QuoteIdent(parts[i])
	}
	return strings.Join(parts, ".")
}

// databasePrivileges replaces the default rights to the database by the source's.
func (r *run) databasePrivileges(ctx context.Context, conn *pgconn.PgConn, name string, d basesnapshot.Database) error {
	if err := session.Exec(ctx, conn, "REVOKE ALL ON DATABASE "+name+" FROM PUBLIC"); err != nil {
		return err
	}
	for _, item := range d.ACL {
		rows, err := session.Rows(ctx, conn, `
select case grantee when 0 then 'PUBLIC' else quote_ident(pg_get_userbyid(grantee)) end, privilege_type, is_grantable::int::text
from pg_catalog.aclexplode(array[$1]::aclitem[])`, item)
		if err != nil {
			return fault.Wrap(err, fault.CodeOf(err), "", "rights to the database (%s)", item)
		}
		for _, g := range rows {
			sql := "GRANT " + g[1] + " ON DATABASE " + name + " TO " + g[0]
			if g[2] == "1" && g[0] != "PUBLIC" {
				sql += " WITH GRANT OPTION"
			}
			if err := session.Exec(ctx, conn, sql); err != nil {
				return fault.Wrap(err, fault.CodeOf(err), "", "rights to the database (%s)", item)
			}
		}
	}
	return nil
}

func asPgError(err error) (*pgconn.PgError, bool) { return errors.AsType[*pgconn.PgError](err) }

func itoa(v int64) string { return strconv.FormatInt(v, 10) }
