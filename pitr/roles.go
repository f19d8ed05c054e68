package pitr

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/internal/basesnapshot"
	"tidemark/internal/fault"
	"tidemark/internal/sqltext"
	"tidemark/pitr/session"
)

// missingRoles returns the roles that the schema needs and the server lacks.
func missingRoles(ctx context.Context, conn *pgconn.PgConn, roles []basesnapshot.Role) ([]basesnapshot.Role, error) {
	rows, err := session.Rows(ctx, conn, "select rolname from pg_catalog.pg_roles")
	if err != nil {
		return nil, err
	}
	have := map[string]bool{}
	for _, r := range rows {
		have[r[0]] = true
	}
	var missing []basesnapshot.Role
	for _, r := range roles {
		if !have[r.Name] && !strings.HasPrefix(r.Name, "pg_") {
			missing = append(missing, r)
		}
	}
	return missing, nil
}

// checkRoles refuses a server on which missing roles can't be made.
func checkRoles(missing []basesnapshot.Role, f serverFacts) error {
	if len(missing) == 0 || f.superuser || f.createRol {
		return nil
	}
	var names, sql []string
	for _, r := range missing {
		names = append(names, r.Name)
		sql = append(sql, "CREATE ROLE "+sqltext.QuoteIdent(r.Name)+" NOLOGIN;")
	}
	return fault.New(fault.Usage, strings.Join(sql, " ")+" or restore with --no-owner --no-privileges",
		"the target server lacks the roles %s, and role %q may not make them", strings.Join(names, ", "), f.user)
}

// madeMeanwhile reports whether a role could not be made because it is there: another restore may run on the same server.
func madeMeanwhile(err error) bool {
	pgErr, ok := asPgError(err)
	return ok && (pgErr.Code == "42710" || pgErr.Code == "23505")
}

// createRoles makes missing roles, without login, password or rights over the server: what they own and
// may touch in this database is all that a restore needs of them.
func createRoles(ctx context.Context, conn *pgconn.PgConn, missing []basesnapshot.Role) (notes []string, err error) {
	made := map[string]bool{}
	for _, r := range missing {
		inherit := " NOINHERIT"
		if r.Inherit {
			inherit = " INHERIT"
		}
		if err := session.Exec(ctx, conn, "CREATE ROLE "+sqltext.QuoteIdent(r.Name)+" NOLOGIN"+inherit); madeMeanwhile(err) {
			continue
		} else if err != nil {
			return nil, fault.Wrap(err, fault.Failed, "make the role by hand", "create role %q", r.Name)
		}
		made[r.Name] = true
		note := "role " + sqltext.QuoteIdent(r.Name) + " was missing and was made without login, password and rights over the server"
		if r.Login {
			note += ": ALTER ROLE " + sqltext.QuoteIdent(r.Name) + " LOGIN PASSWORD …"
		}
		notes = append(notes, note)
	}
	for _, r := range missing {
		for _, m := range r.MemberOf {
			if !made[m.Role] {
				notes = append(notes, "role "+sqltext.QuoteIdent(r.Name)+" was not made a member of "+sqltext.QuoteIdent(m.Role)+", which was there already")
				continue
			}
			if err := session.Exec(ctx, conn, "GRANT "+sqltext.QuoteIdent(m.Role)+" TO "+sqltext.QuoteIdent(r.Name)); err != nil {
				return nil, fault.Wrap(err, fault.Failed, "", "make role %q a member of %q", r.Name, m.Role)
			}
		}
	}
	return notes, nil
}
