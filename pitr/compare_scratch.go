package pitr

import (
	"context"
	"net/url"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/internal/fault"
	"tidemark/internal/sqltext"
	"tidemark/pitr/session"
)

const (
	scratchSuffix  = "_tidemark_compare"
	scratchComment = "tidemark: scratch database of a comparison"
)

// scratchName is the name of the scratch database beside a live one.
func scratchName(live string) string {
	if len(live)+len(scratchSuffix) > maxName {
		live = strings.ToValidUTF8(live[:maxName-len(scratchSuffix)], "")
	}
	return live + scratchSuffix
}

// withDatabase is a DSN that names another database of the same server.
func withDatabase(dsn, database string) string {
	if !strings.HasPrefix(dsn, "postgres://") && !strings.HasPrefix(dsn, "postgresql://") {
		quoted := strings.ReplaceAll(strings.ReplaceAll(database, `\`, `\\`), `'`, `\'`)
		return strings.TrimSpace(dsn + " dbname='" + quoted + "'") // the last one counts
	}
	u, err := url.Parse(dsn)
	if err != nil {
		return dsn // the connector says so
	}
	u.Path, u.RawPath = "/"+database, ""
	q := u.Query()
	q.Del("dbname")
	q.Del("database")
	u.RawQuery = q.Encode()
	return u.String()
}

// openScratch makes the scratch database, in place of one that an earlier comparison left.
func (c *comparison) openScratch(ctx context.Context) error {
	name := c.scratch.Database()
	p := &place{conn: c.scratch, final: name, name: name}
	var err error
	if p.admin, err = c.scratch.Open(ctx, "postgres"); err != nil {
		return err
	}
	if err := p.lock(ctx, "hashtext("+sqltext.QuoteLiteral(name)+")"); err != nil {
		return err
	}
	c.place = p
	server, err := readServer(ctx, p.admin, c.manifest)
	if err != nil {
		return err
	}
	if !server.createDB && !server.superuser {
		return fault.New(fault.Usage, "ALTER ROLE "+sqltext.QuoteIdent(server.user)+" CREATEDB, or name a database on another server with --scratch",
			"role %q may not make the scratch database that the comparison needs", server.user)
	}
	found, err := p.find(ctx, scratchComment)
	if err != nil {
		return err
	}
	if found != absent {
		// An empty one is a comparison's that died before it marked it, unless a person chose its name.
		if found == foreign || found == unmarked && !strings.HasSuffix(name, scratchSuffix) {
			return fault.Wrap(ErrNotEmpty, fault.Usage, "drop it, or name another with --scratch", "database %q exists and is no scratch database", name)
		}
		if err := session.Exec(ctx, p.admin, "DROP DATABASE "+sqltext.QuoteIdent(name)); err != nil {
			return fault.Wrap(err, fault.CodeOf(err), "end the sessions that use it", "drop the scratch database that an earlier comparison left")
		}
	}
	// The server may well have made a database whose maker stopped waiting for it, and has no session to drop it in any more: an
	// interruption counts once it is made and marked.
	ctx = context.WithoutCancel(ctx)
	if err := session.Exec(ctx, p.admin, createDatabaseSQL(name, c.manifest.Database, server.version)); err != nil {
		return fault.Wrap(err, fault.Usage, "name a database on another server with --scratch", "create the scratch database %q", name)
	}
	c.made = true
	return session.Exec(ctx, p.admin, "COMMENT ON DATABASE "+sqltext.QuoteIdent(name)+" IS "+sqltext.QuoteLiteral(scratchComment))
}

// close drops the scratch database. If that fails, the next comparison does it.
func (c *comparison) close(ctx context.Context) {
	if c.place == nil {
		return
	}
	if c.made {
		if err := session.Exec(ctx, c.place.admin, "DROP DATABASE "+sqltext.QuoteIdent(c.place.name)+" WITH (FORCE)"); err != nil {
			c.report.Notes = append(c.report.Notes, "the scratch database "+sqltext.QuoteIdent(c.place.name)+" could not be dropped: "+err.Error())
		}
	}
	c.place.close(ctx)
}

// How both sides print values, whatever the settings of role and database.
const compareSettings = "SET extra_float_digits = 1; SET bytea_output = 'hex'; SET jit = off"

func (c *comparison) scratchSession(ctx context.Context) (*pgconn.PgConn, error) {
	return openCompare(ctx, c.scratch)
}

func (c *comparison) liveSession(ctx context.Context) (*pgconn.PgConn, error) {
	return openCompare(ctx, c.live)
}

func openCompare(ctx context.Context, c *session.Connector) (*pgconn.PgConn, error) {
	conn, err := c.Open(ctx, c.Database())
	if err != nil {
		return nil, err
	}
	if err := session.Exec(ctx, conn, compareSettings); err != nil {
		session.Close(conn)
		return nil, err
	}
	return conn, nil
}
