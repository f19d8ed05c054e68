package pitr

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/internal/basesnapshot"
	"tidemark/internal/fault"
	"tidemark/internal/sqltext"
	"tidemark/pitr/session"
)

// A restore that did not reach its end leaves a mark, so that nobody takes its database for whole, and so
// that the next restore may throw it away: the name and comment of a database that the restore made, a
// schema in one that it was given.
const (
	unfinishedSuffix  = "_tidemark_unfinished"
	unfinishedSchema  = "tidemark_unfinished"
	unfinishedComment = "tidemark: unfinished restore of archive "
	maxName           = 63           // bytes of a PostgreSQL name
	lockClass         = "1953064045" // "tidm": of the advisory locks that keep restores apart
)

// unfinishedName is the name a database has until it is complete. Long names are cut and told apart by a hash.
func unfinishedName(final string) string {
	if len(final)+len(unfinishedSuffix) <= maxName {
		return final + unfinishedSuffix
	}
	sum := sha256.Sum256([]byte(final))
	cut := strings.ToValidUTF8(final[:maxName-len(unfinishedSuffix)-9], "")
	return cut + "_" + hex.EncodeToString(sum[:4]) + unfinishedSuffix
}

// place is the database being restored into.
type place struct {
	conn   *session.Connector
	admin  *pgconn.PgConn // in the maintenance database when the database is made, else in the database itself; holds the lock
	final  string         // the name asked for
	name   string         // the name it has now
	create bool
	schema string // the final name of the schema to make in the database; "" without one
}

func (p *place) close(ctx context.Context) {
	if p.admin != nil {
		// The server ends a session some time after it was closed, and its locks with it.
		_, _ = p.admin.Exec(ctx, "select pg_advisory_unlock_all()").ReadAll()
		_ = p.admin.Close(ctx) // nothing is lost with it any more
	}
}

// openPlace connects and takes the lock against other restores into the same database.
func openPlace(ctx context.Context, c *session.Connector, create bool) (*place, error) {
	p := &place{conn: c, final: c.Database(), name: c.Database(), create: create}
	var err error
	key := "0"
	if create {
		p.name = unfinishedName(p.final)
		key = "hashtext(" + sqltext.QuoteLiteral(p.final) + ")"
		p.admin, err = c.Open(ctx, "postgres")
		if err != nil && strings.Contains(err.Error(), "does not exist") {
			p.admin, err = c.Open(ctx, "template1")
		}
	} else {
		p.admin, err = c.Open(ctx, p.name)
	}
	if err != nil {
		return nil, err
	}
	return p, p.lock(ctx, key)
}

// lock keeps other restores away for as long as the connection is open; one that doesn't get it is closed.
func (p *place) lock(ctx context.Context, key string) error {
	err := p.tryLock(ctx, key)
	// The server notices a little later that a restore was killed: its session may still hold the lock.
	patience := time.NewTimer(lockPatience)
	defer patience.Stop()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for fault.CodeOf(err) == fault.Conflict {
		select {
		case <-tick.C:
			err = p.tryLock(ctx, key)
			continue
		case <-patience.C:
		case <-ctx.Done():
		}
		break
	}
	if err != nil {
		session.Close(p.admin)
	}
	return err
}

// lockPatience bounds the wait for a killed restore's session to end.
const lockPatience = 10 * time.Second

func (p *place) tryLock(ctx context.Context, key string) error {
	got, err := session.Value(ctx, p.admin, "select pg_try_advisory_lock("+lockClass+", "+key+")::int::text")
	if err == nil && got != "1" {
		err = fault.New(fault.Conflict, "wait for it, or end its sessions", "another restore into database %q is under way", p.final)
	}
	return err
}

// checkCreate makes sure that the database can be made: it isn't there, and what an earlier restore left
// bears our mark.
func (p *place) checkCreate(ctx context.Context, f serverFacts) error {
	if !f.createDB && !f.superuser {
		return fault.New(fault.Usage, "ALTER ROLE "+sqltext.QuoteIdent(f.user)+" CREATEDB", "role %q may not create databases", f.user)
	}
	found, err := session.Value(ctx, p.admin, "select 1 from pg_catalog.pg_database where datname = $1", p.final)
	if err != nil {
		return err
	}
	if found != "" {
		return fault.Wrap(ErrNotEmpty, fault.Usage, "name a new database, or leave --create away to restore into it if it is empty", "database %q exists", p.final)
	}
	_, err = p.leftover(ctx)
	return err
}

// leftover reports whether an earlier restore left its database, and refuses one that only has the name.
func (p *place) leftover(ctx context.Context) (bool, error) {
	found, err := p.find(ctx, unfinishedComment)
	if err == nil && found == foreign {
		err = fault.New(fault.Usage, "drop or rename it", "database %q has the name of an unfinished restore and not its mark", p.name)
	}
	return err == nil && found != absent, err
}

// What find finds under a database's name.
type finding int

const (
	absent   finding = iota
	marked           // its comment begins with the mark
	unmarked         // no mark, and empty: who died between making and marking it left it so
	foreign          // no mark, and not empty
)

// find looks for the database.
func (p *place) find(ctx context.Context, mark string) (finding, error) {
	rows, err := session.Rows(ctx, p.admin, "select coalesce(shobj_description(oid, 'pg_database'), '') from pg_catalog.pg_database where datname = $1", p.name)
	if err != nil || len(rows) == 0 {
		return absent, err
	}
	if strings.HasPrefix(rows[0][0], mark) {
		return marked, nil
	}
	conn, err := p.conn.Open(ctx, p.name)
	if err != nil {
		return absent, err
	}
	defer session.Close(conn)
	held, err := contents(ctx, conn)
	if len(held) > 0 {
		return foreign, err
	}
	return unmarked, err
}

// make drops what an earlier restore left and makes the database under its unfinished name.
func (p *place) make(ctx context.Context, archive string, m *basesnapshot.Manifest, f serverFacts) error {
	left, err := p.leftover(ctx)
	if err != nil {
		return err
	}
	if left {
		if err := session.Exec(ctx, p.admin, "DROP DATABASE "+sqltext.QuoteIdent(p.name)); err != nil {
			return fault.Wrap(err, fault.Failed, "end the sessions that use it", "drop the unfinished database %q", p.name)
		}
	}
	if err := session.Exec(ctx, p.admin, createDatabaseSQL(p.name, m.Database, f.version)); err != nil {
		return fault.Wrap(err, fault.Usage, "make the database by hand with a locale that this server has, and restore without --create", "create database %q", p.name)
	}
	return session.Exec(ctx, p.admin, "COMMENT ON DATABASE "+sqltext.QuoteIdent(p.name)+" IS "+sqltext.QuoteLiteral(unfinishedComment+archive))
}

// inside runs SQL in the database being made.
func (p *place) inside(ctx context.Context, sql string) error {
	conn, err := p.conn.OpenReplica(ctx, p.name)
	if err != nil {
		return err
	}
	return errors.Join(session.Exec(ctx, conn, sql), conn.Close(ctx))
}

func createDatabaseSQL(name string, d basesnapshot.Database, version int) string {
	sql := "CREATE DATABASE " + sqltext.QuoteIdent(name) + " TEMPLATE template0 ENCODING " + sqltext.QuoteLiteral(d.Encoding)
	if d.Collate != "" {
		sql += " LC_COLLATE " + sqltext.QuoteLiteral(d.Collate)
	}
	if d.CType != "" {
		sql += " LC_CTYPE " + sqltext.QuoteLiteral(d.CType)
	}
	switch {
	case version < 150000:
	case d.LocaleProvider == "i":
		sql += " LOCALE_PROVIDER icu ICU_LOCALE " + sqltext.QuoteLiteral(d.Locale)
		if d.ICURules != "" {
			sql += " ICU_RULES " + sqltext.QuoteLiteral(d.ICURules)
		}
	case d.LocaleProvider == "b":
		sql += " LOCALE_PROVIDER builtin BUILTIN_LOCALE " + sqltext.QuoteLiteral(d.Locale)
	default:
		sql += " LOCALE_PROVIDER libc"
	}
	return sql
}

// finish runs the last statements, gives the database its final name and takes the mark away.
func (p *place) finish(ctx context.Context, d basesnapshot.Database, last string) error {
	if !p.create {
		if err := session.Exec(ctx, p.admin, "BEGIN; DROP SCHEMA "+unfinishedSchema+" CASCADE;\n"+last+"COMMIT"); err != nil {
			return fault.Wrap(err, fault.CodeOf(err), "", "take the mark of an unfinished restore away, and make event triggers")
		}
		return nil
	}
	if last != "" {
		if err := p.inside(ctx, last); err != nil {
			return fault.Wrap(err, fault.CodeOf(err), "", "make event triggers")
		}
	}
	comment := "NULL"
	if d.Comment != "" {
		comment = sqltext.QuoteLiteral(d.Comment)
	}
	p.awaitAlone(ctx)
	// In one transaction: the rename and the new comment come together.
	sql := "BEGIN; ALTER DATABASE " + sqltext.QuoteIdent(p.name) + " RENAME TO " + sqltext.QuoteIdent(p.final) +
		"; COMMENT ON DATABASE " + sqltext.QuoteIdent(p.final) + " IS " + comment + "; COMMIT"
	if err := session.Exec(ctx, p.admin, sql); err != nil {
		return fault.Wrap(err, fault.Failed, "rename it by hand once nothing is in the way: ALTER DATABASE "+sqltext.QuoteIdent(p.name)+" RENAME TO "+sqltext.QuoteIdent(p.final),
			"the database is complete, but could not be given its name")
	}
	p.name = p.final
	return nil
}

// awaitAlone waits a moment for this restore's own sessions in the database to be gone, which end some time
// after they were closed. ALTER DATABASE waits for them, too, and looks again only after 100 ms. Whatever
// is in the way for longer, or an error here, is its to report.
func (p *place) awaitAlone(ctx context.Context) {
	const patience, pause = 100 * time.Millisecond, 2 * time.Millisecond
	// The deadline isn't the query's: a connection whose query was cut short is closed, and with it goes the lock.
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(pause) {
		sessions, err := session.Value(ctx, p.admin, "select count(*) from pg_catalog.pg_stat_activity where datname = $1", p.name)
		if err != nil || sessions == "0" {
			return
		}
	}
}
