package pitr

import (
	"context"

	"tidemark/pitr/session"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"
)

// task is something to do on one of several connections.
type task func(context.Context, *pgconn.PgConn) error

// together does tasks over several connections, in the order in which they come.
func (r *run) together(ctx context.Context, tasks []task) error {
	queue := make(chan task, len(tasks))
	for _, t := range tasks {
		queue <- t
	}
	close(queue)
	group, ctx := errgroup.WithContext(ctx)
	for range min(r.o.Jobs, len(tasks)) {
		group.Go(func() error {
			conn, err := r.session(ctx)
			if err != nil {
				return err
			}
			defer session.Close(conn)
			for do := range queue {
				if err := do(ctx, conn); err != nil {
					return err
				}
				r.advance(1)
			}
			return nil
		})
	}
	return group.Wait()
}

// analyses gather statistics, so that the first queries on the restored database are planned well. They come after
// everything that has statistics of its own: indexes of expressions, CREATE STATISTICS, materialized views.
func (r *run) analyses(ctx context.Context, conn *pgconn.PgConn) ([]task, error) {
	names := r.analyzed()
	if r.schemaFirst() {
		var err error
		if names, err = analyzedNow(ctx, conn); err != nil {
			return nil, err
		}
	}
	var tasks []task
	for _, name := range names {
		tasks = append(tasks, func(ctx context.Context, conn *pgconn.PgConn) error { return session.Exec(ctx, conn, "ANALYZE "+name) })
	}
	return tasks, nil
}

// analyzed names the chosen tables and what is made of them, quoted.
func (r *run) analyzed() []string {
	var names []string
	roots := map[string]bool{}
	for _, t := range r.chosen.tables {
		names = append(names, r.quoted(t.Namespace, t.Name))
		if t.Root != nil && !roots[t.Root.String()] && (r.o.DataOnly || r.makes(*t.Root)) {
			roots[t.Root.String()] = true
			names = append(names, r.quoted(t.Root.Namespace, t.Root.Name))
		}
	}
	for _, m := range r.manifest.Matviews {
		if m.Populated && len(r.chosen.filter) == 0 && !r.o.DataOnly {
			names = append(names, r.quoted(m.Namespace, m.Name))
		}
	}
	return names
}

// analyzedNow names the tables and materialized views that there are after schema changes, quoted.
func analyzedNow(ctx context.Context, conn *pgconn.PgConn) ([]string, error) {
	rows, err := session.Rows(ctx, conn, `
select quote_ident(n.nspname) || '.' || quote_ident(c.relname) from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where (c.relkind in ('r', 'p') or c.relkind = 'm' and c.relispopulated) and c.relpersistence <> 't' and `+ownObjects)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, row := range rows {
		names = append(names, row[0])
	}
	return names, nil
}
