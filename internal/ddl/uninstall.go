package ddl

import (
	"context"

	"github.com/jackc/pgx/v5"

	"tidemark/internal/fault"
)

// installedSQL lists the statements that remove what is there, triggers first. The schema goes only if
// nothing else is in it.
const installedSQL = `WITH objects AS (
	SELECT 1 AS step, format('DROP EVENT TRIGGER IF EXISTS %I', evtname) AS sql, 0::oid AS oid FROM pg_catalog.pg_event_trigger WHERE evtname = ANY ($1)
	UNION ALL
	SELECT 2, format('DROP FUNCTION IF EXISTS %s', p.oid::regprocedure), p.oid FROM pg_catalog.pg_proc p
	WHERE p.pronamespace = (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname = 'tidemark') AND p.proname LIKE 'ddl\_%'
	UNION ALL
	SELECT 3, format('DROP SEQUENCE IF EXISTS %s', c.oid::regclass), c.oid FROM pg_catalog.pg_class c
	WHERE c.relnamespace = (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname = 'tidemark') AND c.relname IN ('ddl_memory', 'ddl_space') AND c.relkind = 'S'
	UNION ALL
	SELECT 3, format('DROP MATERIALIZED VIEW IF EXISTS %s', c.oid::regclass), c.oid FROM pg_catalog.pg_class c
	WHERE c.relnamespace = (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname = 'tidemark') AND c.relname = 'ddl_key' AND c.relkind = 'm'
)
SELECT sql FROM (
	SELECT step, sql FROM objects
	UNION ALL
	SELECT 4, 'DROP SCHEMA IF EXISTS tidemark' FROM pg_catalog.pg_namespace n WHERE n.nspname = 'tidemark'
		AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.refclassid = 'pg_catalog.pg_namespace'::regclass AND d.refobjid = n.oid
			AND d.deptype = 'n' AND d.objid NOT IN (SELECT o.oid FROM objects o))
) s ORDER BY step, sql`

// UninstallPlan returns the statements that Uninstall would run; none if nothing is installed.
func UninstallPlan(ctx context.Context, conn *pgx.Conn) ([]string, error) {
	var list []string
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) (err error) {
		list, err = uninstallPlan(ctx, tx)
		return err
	})
	return list, fault.Wrap(err, fault.CodeOf(err), "", "looking for the capture of schema changes")
}

func uninstallPlan(ctx context.Context, tx pgx.Tx) ([]string, error) {
	if _, err := tx.Exec(ctx, "SET LOCAL lock_timeout = '"+lockTimeout+"'; SET LOCAL search_path = pg_catalog", pgx.QueryExecModeSimpleProtocol); err != nil {
		return nil, err
	}
	rows, err := tx.Query(ctx, installedSQL, EventTriggers)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// Uninstall removes the event triggers, their functions and, if nothing else is in it, the schema; it returns
// the statements that it ran.
func Uninstall(ctx context.Context, conn *pgx.Conn) (statements []string, err error) {
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) (err error) {
		if statements, err = uninstallPlan(ctx, tx); err != nil {
			return err
		}
		for _, sql := range statements {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return err
			}
		}
		return nil
	})
	return statements, fault.Wrap(err, installCode(err), "", "removing the capture of schema changes")
}

// UninstallSQL returns the statements that remove an installation of this version whatever is there, for people
// who run them by hand.
func UninstallSQL() []string {
	var list []string
	for _, name := range EventTriggers {
		list = append(list, "DROP EVENT TRIGGER IF EXISTS "+pgx.Identifier{name}.Sanitize())
	}
	return append(list, "DROP SCHEMA IF EXISTS "+Schema+" CASCADE")
}
