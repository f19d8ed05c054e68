package ddl

import (
	"context"
	"embed"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/internal/fault"
	"tidemark/internal/sqltext"
)

// Version is the version of what Install puts into a database; a later program replaces an earlier one's.
const Version = 28

// Schema is where everything lives that Install makes, but for the event triggers, which have no schema.
const Schema = "tidemark"

// EventTriggers are the names of the event triggers. Triggers of one event fire in the order of their
// names: these sort first, so that a statement's message precedes those of what a user's own event trigger does after it.
var EventTriggers = []string{"00_tidemark_account_drop", "00_tidemark_account_end", "00_tidemark_start", "00_tidemark_drop", "00_tidemark_rewrite", "00_tidemark_end"}

// lockTimeout bounds the wait for a lock: nothing of the source waits behind an installation for longer.
const lockTimeout = "5s"

//go:embed sql/*.sql
var sqlFiles embed.FS

// installFiles are run in this order.
var installFiles = []string{"schema.sql", "key.sql", "split.sql", "context.sql", "text.sql", "statement.sql", "inexact.sql", "grants.sql", "capture.sql", "triggers.sql"}

// Options say what Install makes.
type Options struct {
	// AllTables also gives each permanent table that is made without a primary key REPLICA IDENTITY FULL, or
	// UPDATE and DELETE would fail there under a publication FOR ALL TABLES (error 55000).
	AllTables bool
	// Publication is the one that the archiver reads. Statements about it are not written: restores leave it out.
	Publication string
}

// Install puts the event triggers into the database, or brings those of an earlier version up to date. It may
// be called again at any time; where everything is in place it changes nothing. Errors are fault errors:
// Usage where the role may not make event triggers.
func Install(ctx context.Context, conn *pgx.Conn, o Options) error {
	status, err := Probe(ctx, conn)
	if err != nil {
		return err
	}
	if status.Current && status.options == o {
		return nil
	}
	if status.KeyHidden() {
		return fault.New(fault.Usage, strings.Join(status.Missing, " "), "schema changes are captured, but role %q may not read the key that they are verified with", status.Role)
	}
	if !status.CanInstall {
		return fault.New(fault.Usage, strings.Join(status.Missing, " "), "schema changes can't be captured: role %q may not make event triggers", status.Role)
	}
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		for _, sql := range installSQL(status, o) {
			if _, err := tx.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol); err != nil {
				return err
			}
		}
		return nil
	})
	return fault.Wrap(err, installCode(err), "", "installing the capture of schema changes")
}

// installSQL returns what makes the installation, one string a file, to be run in one transaction.
func installSQL(status Status, o Options) []string {
	language := "SET lc_messages = 'C'" // contexts are read in English, whatever the session speaks
	if !status.superuser {
		language = "" // not allowed: where lc_messages is another, statements inside functions count as not told apart
	}
	replace := strings.NewReplacer(
		"%VERSION%", strconv.Itoa(Version),
		"%ALL_TABLES%", strconv.FormatBool(o.AllTables),
		"%PUBLICATION%", sqltext.QuoteLiteral(o.Publication),
		"SET lc_messages = 'C'", language,
		"%FINGERPRINT%", fingerprintExpression(),
		"%COPIED%", strings.TrimSpace(readSQL("copied.sql")),
		"%RIGHTS%", strings.TrimSpace(readSQL("rights.sql")),
	)
	list := []string{
		// Two archivers that start at once take turns; the second finds everything in place.
		"SELECT pg_catalog.pg_advisory_xact_lock(7594037721)",
		"SET LOCAL lock_timeout = '" + lockTimeout + "'; SET LOCAL check_function_bodies = off; SET LOCAL search_path = pg_catalog; SET LOCAL standard_conforming_strings = on; SET LOCAL client_min_messages = warning",
	}
	for _, name := range installFiles {
		list = append(list, replace.Replace(forVersion(readSQL(name), status.ServerVersion)))
	}
	return list
}

// forVersion leaves out the lines that end with "--since N" where the server is older than N, and those with
// "--before N" where it is not.
func forVersion(sql string, serverVersion int) string {
	lines := strings.Split(sql, "\n")
	kept := lines[:0]
	for _, line := range lines {
		var since, before int
		if i := strings.LastIndex(line, "--since "); i >= 0 {
			since, _ = strconv.Atoi(strings.TrimSpace(line[i+8:]))
		}
		if i := strings.LastIndex(line, "--before "); i >= 0 {
			before, _ = strconv.Atoi(strings.TrimSpace(line[i+9:]))
		}
		if serverVersion >= since && (before == 0 || serverVersion < before) {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "\n")
}

func readSQL(name string) string {
	b, err := sqlFiles.ReadFile("sql/" + name)
	if err != nil {
		panic(fmt.Sprintf("internal/ddl was built without %s: %v", name, err))
	}
	return string(b)
}

func installCode(err error) fault.Code {
	var pgErr *pgconn.PgError
	if asPgError(err, &pgErr) && pgErr.Code == "42501" { // insufficient_privilege
		return fault.Usage
	}
	return fault.CodeOf(err)
}
