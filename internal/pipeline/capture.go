package pipeline

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"tidemark/internal/ddl"
	"tidemark/internal/fault"
	"tidemark/walstream"
)

// captureState is what captures schema changes at a source, and what it can't see.
type captureState struct {
	// Identity differs after everything that is done to the event triggers and their functions, such as to
	// disable and enable them again. "": schema changes are not captured.
	Identity string
	// Unseen sums up what no event trigger sees: the user's own event triggers, the database's properties, and
	// by which index tables were clustered.
	Unseen string
	raw    string // Identity of an installation, current or not
	key    []byte // that messages are verified with; nil: there is none, or none for this role
}

// captureSQL reads both. $1 are our event triggers.
const captureSQL = `
SELECT coalesce((SELECT string_agg(concat_ws(':', e.oid, e.xmin, e.evtenabled), ' ' ORDER BY e.evtname) FROM pg_event_trigger e WHERE e.evtname = ANY ($1)), ''),
  coalesce((SELECT sum(hashtextextended(concat_ws(':', p.oid, p.xmin), 0)::numeric)::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname = 'tidemark' AND p.proname LIKE 'ddl\_%'), '') || CASE current_setting('event_triggers', true) WHEN 'off' THEN '/off' ELSE '' END,
  md5(concat_ws('/',
    (SELECT string_agg(concat_ws(':', e.oid, e.xmin), ' ' ORDER BY e.oid) FROM pg_event_trigger e WHERE e.evtname <> ALL ($1)),
    (SELECT string_agg(concat_ws(':', s.setrole, s.setconfig), ' ' ORDER BY s.setrole) FROM pg_db_role_setting s WHERE s.setdatabase = d.oid),
    (SELECT string_agg(i.indexrelid::text, ' ' ORDER BY i.indexrelid) FROM pg_index i WHERE i.indisclustered),
    d.datdba, d.datacl, d.datconnlimit, d.dattablespace))
FROM pg_database d WHERE d.datname = current_database()`

// readCapture reads the state. last, which may be the zero value, is an earlier reading: what captures is
// examined only where it differs.
func readCapture(ctx context.Context, conn *pgx.Conn, last captureState) (c captureState, err error) {
	var triggers, functions string
	if err := conn.QueryRow(ctx, captureSQL, ddl.EventTriggers).Scan(&triggers, &functions, &c.Unseen); err != nil {
		return c, fmt.Errorf("reading the event triggers: %w", err)
	}
	if triggers == "" {
		return c, nil
	}
	if c.key, err = ddl.ReadKey(ctx, conn); err != nil {
		return c, err
	}
	c.raw = triggers + "/" + functions + "/" + ddl.KeyID(c.key)
	if c.raw == last.raw {
		c.Identity = last.Identity
		return c, nil
	}
	status, err := ddl.Probe(ctx, conn)
	if err == nil && status.Current {
		c.Identity = c.raw
	}
	return c, err
}

// installCapture sees to it that schema changes are written into the stream, where the role may do that. Where
// it may not the archive goes on without: changes are then noticed, and called inexact.
func (r *runner) installCapture(ctx context.Context, conn *pgx.Conn) error {
	if r.cfg.NoSchemaCapture {
		return nil
	}
	before, err := readCapture(ctx, conn, captureState{})
	if err != nil {
		return err
	}
	pub, err := walstream.ReadPublication(ctx, conn, r.cfg.Publication)
	if err != nil {
		return err
	}
	err = ddl.Install(ctx, conn, ddl.Options{AllTables: pub != nil && pub.AllTables, Publication: r.cfg.Publication})
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		r.log.Warn("schema capture is off: every schema change makes a stretch of the archive inexact until the next base snapshot",
			"err", err, "hint", fault.HintOf(err))
		return nil
	}
	after, err := readCapture(ctx, conn, before)
	if err == nil && after.raw != before.raw {
		r.replaced = before.raw // which an earlier program's is as it was seen last, though it isn't current
		r.log.Info("schema capture installed", "schema", ddl.Schema, "event_triggers", strings.Join(ddl.EventTriggers, ", "))
	}
	return err
}

// captureFinding says that schema changes are not captured and that run can't change that; nil if all is well.
func captureFinding(ctx context.Context, conn *pgx.Conn) (*Finding, error) {
	status, err := ddl.Probe(ctx, conn)
	if err != nil || status.Current || status.CanInstall {
		return nil, err
	}
	f := &Finding{
		Finding: walstream.Finding{ID: "schema_capture", Object: pgx.Identifier{status.Role}.Sanitize(),
			Problem: "schema capture is off: the role may not make event triggers, so every schema change makes a stretch of the archive inexact until the next base snapshot"},
		Hint: "or let a superuser run the archiver once: what it installs serves every later run",
	}
	if status.KeyHidden() {
		f.Problem = "schema capture is off: it is installed, but the role may not read the key that its messages are verified with, so every schema change makes a stretch of the archive inexact until the next base snapshot"
		f.Hint = ""
	}
	var statements []string
	for _, m := range status.Missing {
		if strings.HasSuffix(m, ";") {
			statements = append(statements, strings.TrimSuffix(m, ";"))
		}
	}
	f.Fix = strings.Join(statements, "; ")
	return f, nil
}
