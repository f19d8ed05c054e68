package pitr

import (
	"context"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/catalog"
	"tidemark/internal/basesnapshot"
	"tidemark/internal/fault"
	"tidemark/pitr/fold"
	"tidemark/pitr/session"
	"tidemark/segment"
)

// run is one restore under way.
type run struct {
	o          Options
	plan       *Plan
	manifest   *basesnapshot.Manifest
	history    catalog.HistoryPoint
	conn       *session.Connector
	place      *place
	server     serverFacts
	missing    []basesnapshot.Role
	chosen     *selection
	names      *schemaMap                // nil: everything keeps its schema
	extensions []basesnapshot.SchemaItem // with another schema: items among which the needed extensions are
	joins      []string                  // roles to become a member of: objects will belong to them
	joined     []string                  // of which the restoring role is a member by now
	limits     []string                  // what can't be done, said before the start
	fold       *fold.Folder              // nil: all changes are replayed in order
	marks      []fold.Mark               // before each segment, and at the end
	targets    map[string]uint32         // OIDs on the target of the chosen tables that hold rows
	early      map[int]bool              // post-data items already made before replay
	helpers    map[uint32]uint32         // tables that have an index for the replay alone, their OIDs here by those at the source
	empty      map[uint32]bool           // materialized views to fill in the end, by OID
	last       string                    // SQL that comes last of all
	entries    []catalog.Entry           // segments to replay
	report     *Report

	mu      sync.Mutex // of progress and copied
	step    Progress
	rows    map[string]*TableRows
	rowsOf  counted
	doubted bool // changes that aren't exact were gone past: nobody knows how many rows there must be
	start   time.Time
}

const defaultJobs = 4

func newRun(ctx context.Context, o Options) (*run, error) {
	if o.Archive == nil || o.Plan == nil {
		return nil, fault.New(fault.Failed, "", "a restore needs an archive and a plan")
	}
	if o.SchemaOnly && o.DataOnly {
		return nil, fault.New(fault.Usage, "leave one of them away", "--schema-only and --data-only exclude each other")
	}
	if o.DataOnly && o.Create {
		return nil, fault.New(fault.Usage, "leave one of them away", "--data-only needs tables that are there, and --create makes a new database")
	}
	if o.Jobs <= 0 {
		o.Jobs = min(defaultJobs, max(2, runtime.NumCPU()))
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.AsSchema != "" {
		if err := o.checkAsSchema(); err != nil {
			return nil, err
		}
	}
	filter, err := newTableFilter(o.Tables)
	if err != nil {
		return nil, err
	}
	if o.AsSchema != "" && len(filter) == 0 {
		if filter, err = newTableFilter([]string{"*"}); err != nil {
			return nil, err
		}
	}
	conn, err := session.NewConnector(o.DSN)
	if err != nil {
		return nil, err
	}
	r := &run{o: o, plan: o.Plan, conn: conn, early: map[int]bool{}, targets: map[string]uint32{}, helpers: map[uint32]uint32{}, rows: map[string]*TableRows{}, rowsOf: counted{}, start: o.Now()}
	r.history, _ = o.Archive.view.History(o.Plan.History)
	if r.manifest, err = o.Plan.manifest(ctx, o.Archive); err != nil {
		return nil, err
	}
	conn.Encoding = session.EncodingOf(r.manifest.Database.Encoding)
	r.chosen = selectItems(r.manifest, filter, r.history.Begins.Publication, o.Plan.SchemaChanges > 0 && !o.DataOnly && o.AsSchema == "")
	var replayed []PlanTable
	if !o.DataOnly {
		replayed = o.Plan.writtenOrMade()
	}
	strays, err := r.chosen.unmatched(o.Tables, replayed)
	if err != nil {
		return nil, err
	}
	if o.AsSchema != "" {
		r.extensions = r.chosen.items
		if r.names, err = r.chosen.moveInto(unfinishedName(o.AsSchema)); err != nil {
			return nil, err
		}
	}
	p := o.Plan
	r.report = &Report{
		Target: p.Target, Database: conn.Database(), AsSchema: o.AsSchema, History: p.History, SnapshotID: p.Snapshot.ID, SnapshotLSN: p.Snapshot.LSN,
		ReachedLSN: p.Snapshot.LSN, ReachedTime: p.Snapshot.Time, LastKept: p.LastKept, FirstLeftOut: p.FirstLeftOut,
		Rows: map[string]TableRows{}, Seconds: map[Phase]float64{},
	}
	if k := p.LastKept; k != nil && k.LSN >= p.Snapshot.LSN {
		r.report.ReachedLSN, r.report.ReachedTime = k.LSN, k.Time
	}
	r.note(strays...)
	return r, nil
}

// phase runs a part of the restore and notes how long it took.
func (r *run) phase(ctx context.Context, name Phase, unit string, total int64, do func(context.Context) error) error {
	r.mu.Lock()
	r.step = Progress{Phase: name, Unit: unit, Total: total}
	r.mu.Unlock()
	r.advance(0)
	began := r.o.Now()
	r.o.Log.Debug("phase begins", "phase", string(name))
	err := do(ctx)
	r.report.Seconds[name] += r.o.Now().Sub(began).Seconds()
	return err
}

// advance reports progress of the current phase.
func (r *run) advance(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.step.Done += n
	if r.o.Progress != nil {
		r.o.Progress(r.step)
	}
}

func (r *run) note(notes ...string) {
	for _, n := range notes {
		r.o.Log.Debug("noted", "note", n)
	}
	r.report.Notes = append(r.report.Notes, notes...)
}

// session opens a connection for loading and building; the caller closes it.
func (r *run) session(ctx context.Context) (*pgconn.PgConn, error) {
	return r.conn.OpenReplica(ctx, r.place.name)
}

// execute does the whole restore.
func (r *run) execute(ctx context.Context) error {
	if err := r.checkInexact(); err != nil {
		return err
	}
	err := r.phase(ctx, PhasePreflight, "steps", 0, func(ctx context.Context) (err error) {
		if err = r.preflight(ctx); err == nil {
			r.plan, err = r.plan.walkAll(ctx, r.o.Archive)
		}
		if err == nil {
			err = r.preflightChanges(ctx)
		}
		return err
	})
	if r.place != nil {
		defer r.place.close(context.WithoutCancel(ctx))
		defer r.leaveRoles(context.WithoutCancel(ctx))
	}
	if err != nil {
		return err
	}
	if r.o.Confirm != nil {
		if err := r.o.Confirm(r.plan); err != nil {
			return err
		}
	}
	if err := r.begin(ctx); err != nil {
		return err
	}
	steps := []func(context.Context) error{r.schemaPhase, r.dataPhases, r.structurePhases, r.checkPhase}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return r.end(ctx)
}

// begin marks the database as unfinished, having cleared away what an earlier restore left.
func (r *run) begin(ctx context.Context) error {
	p := r.place
	if p.schema != "" {
		return p.makeSchema(ctx, r.plan.Archive, r.owners())
	}
	if p.create {
		return p.make(ctx, r.plan.Archive, r.manifest, r.server)
	}
	old, err := readMarker(ctx, p.admin)
	if err != nil {
		return err
	}
	if old != nil {
		r.o.Log.Info("clear away an unfinished restore", "database", p.name)
		if err := r.release(ctx, p.admin); err != nil {
			return err
		}
		if err := clearPlace(ctx, p.admin, old); err != nil {
			return err
		}
	}
	m := marker{Archive: r.plan.Archive, DataOnly: r.o.DataOnly}
	if r.o.DataOnly {
		m.Tables = quotedTables(r.chosen.tables)
	}
	return writeMarker(ctx, p.admin, m)
}

func (r *run) end(ctx context.Context) error {
	last := r.last
	if !r.schemaFirst() {
		last = r.eventTriggers() + last
	}
	last = r.lastSecurity() + last
	if r.o.Last != nil {
		if err := r.recognise(ctx); err != nil {
			return err
		}
		last = r.o.Last(r.report) + last
	}
	if err := r.finishPlace(ctx, last); err != nil {
		return err
	}
	r.note(r.chosen.notes...)
	r.omissions()
	for name, t := range r.rows {
		r.report.Rows[name] = *t
	}
	r.report.Verified = !r.o.SchemaOnly
	r.report.Seconds["total"] = r.o.Now().Sub(r.start).Seconds()
	return nil
}

// omissions says what the source held and no archive does.
func (r *run) omissions() {
	if len(r.manifest.Tablespaces) > 0 && !r.o.DataOnly {
		r.note("tablespaces are not restored: everything lies in the database's default one")
	}
	for _, m := range r.manifest.Omitted {
		if m.Name != "" && r.chosen.filter.match(m.Namespace, m.Name) {
			r.note("rows of " + m.Kind + " " + segment.QualifiedName(m.Namespace, m.Name) + " are not in the archive")
		} else if m.Name == "" && len(r.chosen.filter) == 0 {
			r.note(m.Kind + " are not in the archive")
		}
	}
	if only := r.history.Begins.Tables; len(only) > 0 && r.plan.SchemaChanges > 0 && !r.o.DataOnly {
		r.note("the archive holds rows of tables that match " + strings.Join(only, ", ") + ": others that were made after the base snapshot have none")
	}
}

// preflight finds every reason not to begin. It changes nothing.
func (r *run) preflight(ctx context.Context) (err error) {
	if r.place, err = r.openPlace(ctx); err != nil {
		return err
	}
	admin := r.place.admin
	if r.server, err = readServer(ctx, admin, r.manifest); err != nil {
		return err
	}
	if !r.o.NoOwner || !r.o.NoPrivileges {
		if r.missing, err = missingRoles(ctx, admin, r.neededRoles()); err != nil {
			return err
		}
		if err := checkRoles(r.missing, r.server); err != nil {
			return err
		}
	}
	if r.names != nil {
		return r.preflightSchema(ctx)
	}
	if err := missingExtensions(ctx, admin, r.chosen.items); err != nil {
		return err
	}
	if r.o.Create {
		if err := r.place.checkCreate(ctx, r.server); err != nil {
			return err
		}
		if err := r.becomeReplica(ctx, admin); err != nil {
			return err
		}
		return r.preflightRole(ctx)
	}
	if err := readDatabase(ctx, admin, r.manifest); err != nil {
		return err
	}
	if err := r.becomeReplica(ctx, admin); err != nil {
		return err
	}
	if err := r.preflightRole(ctx); err != nil {
		return err
	}
	old, err := readMarker(ctx, admin)
	if err != nil || old != nil {
		return err
	}
	if r.o.DataOnly {
		return tablesEmpty(ctx, admin, r.chosen.tables)
	}
	found, err := contents(ctx, admin)
	if err == nil && len(found) > 0 {
		err = notEmpty(r.conn.At(r.place.name), found)
	}
	return err
}
