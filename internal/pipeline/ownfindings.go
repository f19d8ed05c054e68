package pipeline

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"tidemark/walstream"
)

// ownSQL finds what stands in the way of Tidemark's own objects in the source: event triggers that fire before the capture's, whose DDL would be
// written before the statement that they fire for, and things of others in the schema tidemark, which no base snapshot holds.
const ownSQL = `SELECT 'event_trigger_order', quote_ident(e.evtname), format('it fires before the capture of schema changes: what it changes itself is replayed before the statement that it fires for (%s)', e.evtevent),
	format('ALTER EVENT TRIGGER %I RENAME TO %I', e.evtname, 'zz_' || e.evtname)
FROM pg_event_trigger e WHERE e.evtname::text COLLATE "C" < '00_tidemark' AND e.evtenabled <> 'D' AND e.evtevent IN ('ddl_command_end', 'sql_drop')
UNION ALL
SELECT 'schema_tidemark', c.oid::regclass::text, 'it is in the schema tidemark, which is Tidemark''s own: no base snapshot holds it', format('ALTER TABLE %s SET SCHEMA public', c.oid::regclass)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'tidemark' AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relname !~ '^(ddl_|follow)'
	AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype IN ('a', 'i'))
UNION ALL
SELECT 'schema_tidemark', p.oid::regprocedure::text, 'it is in the schema tidemark, which is Tidemark''s own: no base snapshot holds it', format('ALTER ROUTINE %s SET SCHEMA public', p.oid::regprocedure)
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'tidemark' AND p.proname !~ '^ddl_'
ORDER BY 1, 2`

// ownFindings returns them.
func ownFindings(ctx context.Context, conn *pgx.Conn) ([]Finding, error) {
	rows, err := conn.Query(ctx, ownSQL)
	if err != nil {
		return nil, fmt.Errorf("looking at event triggers and the schema tidemark: %w", err)
	}
	var findings []Finding
	var f walstream.Finding
	_, err = pgx.ForEachRow(rows, []any{&f.ID, &f.Object, &f.Problem, &f.Fix}, func() error {
		findings = append(findings, Finding{Finding: f})
		return nil
	})
	return findings, err
}
