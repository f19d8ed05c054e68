package apply

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/internal/ddl"
)

// errElsewhere says that a change was about something that isn't restored.
var errElsewhere = errors.New("it is about something that is not restored")

// present makes sure that a change which is only tried is about what it was about at the source: where part of a
// database is restored, a name that is not qualified may find something else on the search path.
func (e *execution) present(ctx context.Context, conn *pgconn.PgConn, objects []ddl.Object) error {
	if e.choice != Try {
		return nil
	}
	for _, o := range objects {
		name := relationOf(o)
		if name == "" {
			continue
		}
		rows, err := queryOn(ctx, conn, "select 1 where to_regclass($1) is not null", name)
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			return errElsewhere
		}
	}
	return nil
}

// errStays says that something is there yet which was dropped at the source.
var errStays = errors.New("is there yet, under a name that the statement did not mean here")

// gone makes sure that nothing is left of what a DROP dropped: with IF EXISTS it passes over what has got another name,
// of it or of its schema, between the statement's look and its end.
func (e *execution) gone(ctx context.Context, conn *pgconn.PgConn) error {
	if !strings.HasPrefix(e.message.Tag, "DROP ") || e.message.Tag == "DROP OWNED" {
		return nil // that says no names
	}
	for _, o := range e.message.Dropped {
		if grantable[o.Type].class == "" && o.Type != "index" {
			continue
		}
		_, oid, err := find(ctx, conn, o)
		if err != nil {
			return err
		}
		if oid != "0" {
			return fmt.Errorf("%s %s %w", o.Type, o.Identity, errStays)
		}
	}
	return nil
}

// relationOf names the relation that an object is or belongs to, quoted; "" if it has none.
func relationOf(o ddl.Object) string {
	switch o.Type {
	case "table", "foreign table", "view", "materialized view", "sequence", "index":
		return o.Identity
	case "trigger", "policy", "rule", "table constraint":
		if i := strings.LastIndex(o.Identity, " on "); i >= 0 {
			return o.Identity[i+len(" on "):]
		}
	}
	return ""
}
