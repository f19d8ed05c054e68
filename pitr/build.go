package pitr

import (
	"context"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"

	"tidemark/internal/basesnapshot"
	"tidemark/pitr/session"
	"tidemark/segment"
)

// build is an index or constraint to make. Builds that touch a common table in ways that exclude each
// other don't run together: PostgreSQL would let them wait, or call a deadlock (foreign keys of two
// tables that reference each other).
type build struct {
	item   *basesnapshot.SchemaItem
	tables []string // partition trees count as their root
	alone  bool     // locks its tables against every other build
	first  string   // a statement that locks less and may run before, in parallel: the unique index of a constraint
	rest   string   // what follows it; "" where the item's own SQL runs
}

// A primary key or unique constraint and nothing else, as pg_dump prints it.
var keyConstraint = regexp.MustCompile(`^ALTER TABLE ONLY ((?:"(?:[^"]|"")+"|[^\s".]+)\.(?:"(?:[^"]|"")+"|[^\s".]+))\n    ADD CONSTRAINT ("(?:[^"]|"")+"|[^\s"]+) (PRIMARY KEY|UNIQUE) \(([^()]+)\);\s*$`)

func (r *run) newBuild(it *basesnapshot.SchemaItem) *build {
	b := &build{item: it, alone: it.Kind != "INDEX"}
	for _, id := range it.Deps {
		dep := r.chosen.byID[id]
		if dep == nil {
			continue
		}
		if dep.Kind == "TABLE" || dep.Kind == "MATERIALIZED VIEW" {
			b.touch(r.rootOf(dep.Namespace, dep.Name))
		}
		// A foreign key names the constraint it references, and that its table.
		for _, id := range dep.Deps {
			if t := r.chosen.byID[id]; t != nil && t.Kind == "TABLE" && dep.Section == "post-data" {
				b.touch(r.rootOf(t.Namespace, t.Name))
			}
		}
	}
	// A constraint that only wants an index gets it first: CREATE UNIQUE INDEX lets other builds on the table
	// run beside it, ADD CONSTRAINT does not. Partitioned tables can't adopt an index.
	m := keyConstraint.FindStringSubmatch(it.SQL)
	if m != nil && it.Kind == "CONSTRAINT" && r.ordinary(it) && !strings.HasSuffix(m[4], " WITHOUT OVERLAPS") {
		b.alone = false
		b.first = "CREATE UNIQUE INDEX " + m[2] + " ON " + m[1] + " USING btree (" + m[4] + ")"
		b.rest = "ALTER TABLE ONLY " + m[1] + " ADD CONSTRAINT " + m[2] + " " + m[3] + " USING INDEX " + m[2]
	}
	return b
}

func (b *build) touch(table string) {
	if !slices.Contains(b.tables, table) {
		b.tables = append(b.tables, table)
	}
}

// rootOf names the partition tree that a table belongs to, or the table.
func (r *run) rootOf(namespace, name string) string {
	for _, t := range r.chosen.tables {
		if t.Namespace == namespace && t.Name == name && t.Root != nil {
			return t.Root.String()
		}
	}
	return segment.QualifiedName(namespace, name)
}

// ordinary reports whether an item belongs to a table that holds rows itself.
func (r *run) ordinary(it *basesnapshot.SchemaItem) bool {
	return slices.ContainsFunc(r.chosen.tables, func(t *basesnapshot.Table) bool { return t.Namespace == it.Namespace && r.dependsOnTable(it, t) })
}

// scheduler gives out builds whose items and tables are free.
type scheduler struct {
	waiting []*build
	todo    map[int]bool    // items not made yet
	shared  map[string]int  // builds running on a table
	locked  map[string]bool // tables of a running build that is alone
}

// runBuilds makes indexes and constraints over several connections, each after what it depends on.
func (r *run) runBuilds(ctx context.Context, builds []*build) error {
	if len(builds) == 0 {
		return nil
	}
	s := &scheduler{waiting: builds, todo: map[int]bool{}, shared: map[string]int{}, locked: map[string]bool{}}
	for _, b := range builds {
		s.todo[b.item.ID] = true
	}
	ready := make(chan *build)
	done := make(chan *build)
	group, ctx := errgroup.WithContext(ctx)
	for range min(r.o.Jobs, len(builds)) {
		group.Go(func() error { return r.builder(ctx, ready, done) })
	}
	group.Go(func() error { return s.run(ctx, ready, done) })
	return group.Wait()
}

// run hands out builds until all are done.
func (s *scheduler) run(ctx context.Context, ready chan<- *build, done <-chan *build) error {
	defer close(ready)
	running := 0
	for len(s.waiting) > 0 || running > 0 {
		i := s.free()
		if i < 0 && running == 0 {
			i = 0 // a circle of dependencies that pg_dump broke up: take them in its order
		}
		var send chan<- *build
		var next *build
		if i >= 0 {
			send, next = ready, s.waiting[i]
		}
		select {
		case send <- next:
			s.waiting = slices.Delete(s.waiting, i, i+1)
			s.occupy(next)
			running++
		case b := <-done:
			s.release(b)
			running--
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// free finds the first build that may run now; -1 if none may.
func (s *scheduler) free() int {
	return slices.IndexFunc(s.waiting, func(b *build) bool {
		for _, d := range b.item.Deps {
			if s.todo[d] && d != b.item.ID {
				return false
			}
		}
		for _, t := range b.tables {
			if s.locked[t] || b.alone && s.shared[t] > 0 {
				return false
			}
		}
		return true
	})
}

func (s *scheduler) occupy(b *build) {
	for _, t := range b.tables {
		s.shared[t]++
		if b.alone {
			s.locked[t] = true
		}
	}
}

// release frees the tables of a build. One that made its index comes back for the rest, alone.
func (s *scheduler) release(b *build) {
	for _, t := range b.tables {
		s.shared[t]--
		if b.alone {
			delete(s.locked, t)
		}
	}
	if b.first != "" {
		b.first, b.alone = "", true
		s.waiting = append([]*build{b}, s.waiting...)
		return
	}
	delete(s.todo, b.item.ID)
}

// builder makes what it is handed, on a connection of its own.
func (r *run) builder(ctx context.Context, ready <-chan *build, done chan<- *build) error {
	conn, err := r.session(ctx)
	if err != nil {
		return err
	}
	defer session.Close(conn)
	for b := range ready {
		if err := r.make(ctx, conn, b); err != nil {
			return err
		}
		select {
		case done <- b:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

func (r *run) make(ctx context.Context, conn *pgconn.PgConn, b *build) error {
	switch {
	case b.first != "":
		if err := session.Exec(ctx, conn, b.first); err != nil {
			return itemError(b.item, err)
		}
		return nil
	case b.rest != "":
		if err := session.Exec(ctx, conn, b.rest); err != nil {
			return itemError(b.item, err)
		}
	default:
		if err := r.makeItem(ctx, conn, b.item); err != nil {
			return err
		}
	}
	r.advance(1)
	return nil
}
