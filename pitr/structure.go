package pitr

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/internal/basesnapshot"
	"tidemark/internal/fault"
	"tidemark/pitr/apply"
	"tidemark/pitr/session"
	"tidemark/segment"
)

// structurePhases makes what comes after the rows.
func (r *run) structurePhases(ctx context.Context) error {
	if r.o.DataOnly {
		return r.phase(ctx, PhaseFinish, "steps", 0, r.finishRows)
	}
	if r.schemaFirst() {
		return r.settleSchema(ctx)
	}
	if err := r.buildPhase(ctx); err != nil {
		return err
	}
	return r.phase(ctx, PhaseFinish, "steps", 0, r.finishSchema)
}

// buildPhase makes indexes and constraints.
func (r *run) buildPhase(ctx context.Context) error {
	var builds []*build
	for _, it := range r.itemsOf(func(it *basesnapshot.SchemaItem) bool { return it.Section == "post-data" && parallel(it) }) {
		if !r.early[it.ID] {
			builds = append(builds, r.newBuild(it))
		}
	}
	return r.phase(ctx, PhaseIndexes, "steps", int64(len(builds)), func(ctx context.Context) error { return r.buildAll(ctx, builds) })
}

// parallel reports whether an item is an index or constraint: those are made first, several at a time.
func parallel(it *basesnapshot.SchemaItem) bool {
	switch it.Kind {
	case "INDEX", "CONSTRAINT", "FK CONSTRAINT", "CHECK CONSTRAINT", "INDEX ATTACH":
		return true
	}
	return false
}

func (r *run) buildAll(ctx context.Context, builds []*build) error {
	conn, err := r.session(ctx)
	if err != nil {
		return err
	}
	defer session.Close(conn)
	if err := r.dropHelpers(ctx, conn); err != nil {
		return err
	}
	// Foreign keys come after everything they could need, so that none waits for an index in the queue.
	var keys []*build
	var others []*build
	for _, b := range builds {
		if b.item.Kind == "FK CONSTRAINT" {
			keys = append(keys, b)
		} else {
			others = append(others, b)
		}
	}
	if err := r.runBuilds(ctx, others); err != nil {
		return err
	}
	return r.runBuilds(ctx, keys)
}

// finishRows does what follows the rows when the schema was there before.
func (r *run) finishRows(ctx context.Context) error {
	conn, err := r.session(ctx)
	if err != nil {
		return err
	}
	defer session.Close(conn)
	if err := r.release(ctx, conn); err != nil {
		return err
	}
	if err := r.setSequences(ctx, conn); err != nil {
		return err
	}
	return r.refresh(ctx, conn)
}

// finishSchema makes the rest in pg_restore's order: triggers, rules and policies, then sequences' values,
// privileges, and the rows of materialized views. Event triggers come later still, in end.
func (r *run) finishSchema(ctx context.Context) error {
	conn, err := r.session(ctx)
	if err != nil {
		return err
	}
	defer session.Close(conn)
	if err := r.release(ctx, conn); err != nil {
		return err
	}
	if err := r.makeRest(ctx, conn); err != nil {
		return err
	}
	if err := r.refresh(ctx, conn); err != nil {
		return err
	}
	if r.o.Create {
		return r.databaseSettings(ctx, r.place.admin)
	}
	return nil
}

// makeRest makes what comes after indexes and constraints.
func (r *run) makeRest(ctx context.Context, conn *pgconn.PgConn) error {
	main := func(it *basesnapshot.SchemaItem) bool {
		return it.Section == "post-data" && !parallel(it) && !late(it) && !r.early[it.ID] && !r.forcedSecurity(it)
	}
	acl := func(it *basesnapshot.SchemaItem) bool {
		return it.RestorePass() == basesnapshot.PassACL && !r.o.NoPrivileges
	}
	sequences := r.setSequences
	if r.schemaFirst() {
		sequences = r.startSequences
	}
	steps := []func() error{
		func() error { return r.makeAll(ctx, conn, main) },
		func() error { return r.mendSchema(ctx, conn) },
		func() error { return sequences(ctx, conn) },
		func() error { return r.makeAll(ctx, conn, ofPublication) },
		func() error { return r.giveOwners(ctx, conn) },
		func() error { return r.forgetDefaultPrivileges(ctx, conn) },
		func() error { return r.makeAll(ctx, conn, acl) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// eventTriggers is the SQL of what comes last of all. Nothing that the restore itself does may fire them,
// not even taking its mark away.
func (r *run) eventTriggers() string {
	var sql strings.Builder
	if r.o.DataOnly {
		return ""
	}
	for _, it := range r.itemsOf(func(it *basesnapshot.SchemaItem) bool {
		return it.RestorePass() == basesnapshot.PassPostACL && !strings.HasSuffix(it.Kind, " DATA")
	}) {
		sql.WriteString(it.SQL)
		if !r.o.NoOwner {
			sql.WriteString(it.OwnerSQL)
		}
		sql.WriteByte('\n')
	}
	return sql.String()
}

func (r *run) makeAll(ctx context.Context, conn *pgconn.PgConn, want func(*basesnapshot.SchemaItem) bool) error {
	for _, it := range r.itemsOf(want) {
		if err := r.makeItem(ctx, conn, it); err != nil {
			return err
		}
		r.advance(1)
	}
	return nil
}

// refresh fills the materialized views that were filled at the source, in pg_dump's order: one that reads
// another comes after it.
func (r *run) refresh(ctx context.Context, conn *pgconn.PgConn) error {
	if r.o.SchemaOnly {
		return nil
	}
	filled := map[string]bool{}
	for _, m := range r.manifest.Matviews {
		filled[segment.QualifiedName(m.Namespace, m.Name)] = m.Populated
	}
	for _, it := range r.itemsOf(func(it *basesnapshot.SchemaItem) bool { return it.Kind == "MATERIALIZED VIEW" }) {
		if !filled[segment.QualifiedName(it.Namespace, it.Name)] {
			continue
		}
		if err := r.fill(ctx, conn, r.quoted(it.Namespace, it.Name)); err != nil {
			return fault.Wrap(err, fault.CodeOf(err), "", "fill materialized view %s.%s", it.Namespace, it.Name)
		}
		r.advance(1)
	}
	return nil
}

// fill fills a materialized view, by its quoted name, as its owner would in a session of the source's: policies
// hold, and functions find what they name. One that its owner could not fill at the source any more, for want
// of rights or because its query fails on the rows, stays empty, and is named: reading it is an error.
func (r *run) fill(ctx context.Context, conn *pgconn.PgConn, view string) error {
	err := session.Exec(ctx, conn, r.setSearchPath()+"; SET row_security = on; REFRESH MATERIALIZED VIEW "+view+"; SET row_security = off; SET search_path = ''")
	if pgErr, ok := asPgError(err); ok && conn.TxStatus() == 'I' && apply.Unfillable(pgErr) {
		r.note("materialized view " + view + " could not be filled and is empty until REFRESH MATERIALIZED VIEW: " + pgErr.Message)
		return nil
	}
	return err
}
