package apply

import (
	"context"
	"errors"
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
