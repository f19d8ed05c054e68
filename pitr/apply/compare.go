package apply

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/internal/ddl"
)

// compare checks that the relations which the change made or altered are what they became at the source,
// where the server is of the same major version: others print the same thing in other words. What another
// transaction has committed after the statement and before its commit is here already, and was not there then:
// locks don't keep a table's name, its parents' and its children's from being changed meanwhile. Then only what the statement
// itself made is compared: nobody else could change that.
func (e *execution) compare(ctx context.Context, conn *pgconn.PgConn) error {
	states := e.message.State
	if !e.alone {
		states = e.madeStates()
	}
	if len(states) == 0 || e.choice == Try || e.early {
		return nil
	}
	if same, err := e.sameMajor(ctx, conn); err != nil || !same {
		return err
	}
	return asDescribed(ctx, conn, func() error {
		for _, st := range states {
			if !st.Comparable() {
				e.tellOnce("changed tables and views are not compared with the source where another version of the archiver described them")
				continue
			}
			if err := compareRelation(ctx, conn, st); err != nil {
				return err
			}
		}
		return nil
	})
}

// sameMajor reports whether the server prints things as the source does.
func (e *execution) sameMajor(ctx context.Context, conn *pgconn.PgConn) (bool, error) {
	rows, err := queryOn(ctx, conn, "select current_setting('server_version_num')")
	if err != nil {
		return false, err
	}
	return int(atoi(rows[0][0]))/10000 == e.message.ServerVersion/10000, nil
}

// asDescribed looks at the target under the settings that messages describe relations with. They are a savepoint's, and go with it.
func asDescribed(ctx context.Context, conn *pgconn.PgConn, look func() error) error {
	if _, err := conn.Exec(ctx, "SAVEPOINT tidemark_look; "+ddl.FingerprintSettings).ReadAll(); err != nil {
		return err
	}
	if err := look(); err != nil {
		return err
	}
	_, err := conn.Exec(ctx, "ROLLBACK TO SAVEPOINT tidemark_look; RELEASE SAVEPOINT tidemark_look").ReadAll()
	return err
}

// madeStates are those of relations that the statement made, unless it may have known other names than the replay.
func (e *execution) madeStates() (states []ddl.RelationState) {
	if len(e.overlap) > 0 || !strings.HasPrefix(e.message.Tag, "CREATE ") && e.message.Tag != "SELECT INTO" {
		return nil
	}
	for _, st := range e.message.State {
		if slices.ContainsFunc(e.message.Objects, func(o ddl.Object) bool { return o.OID == st.OID && o.Type != "index" }) {
			states = append(states, st)
		}
	}
	return states
}

func compareRelation(ctx context.Context, conn *pgconn.PgConn, st ddl.RelationState) error {
	rows, err := queryOn(ctx, conn, ddl.FingerprintSQL, st.Schema, st.Name)
	if err != nil {
		return fmt.Errorf("compare %s.%s with the source: %w", st.Schema, st.Name, err)
	}
	if len(rows) == 0 {
		return fmt.Errorf("it left no relation %s.%s, as it did at the source", st.Schema, st.Name)
	}
	if string(rows[0][0]) != st.Fingerprint {
		return fmt.Errorf("%s.%s is not what it became at the source", st.Schema, st.Name)
	}
	return nil
}

// recent are the last transactions that changed the schema. One that committed just before a statement may not
// have been seen by it yet: a commit is in the log before others see it.
type recent []uint32

const maxRecent = 64

func (r *recent) add(xid uint32) {
	*r = append(*r, xid)
	if len(*r) > maxRecent {
		*r = slices.Delete(*r, 0, 1)
	}
}

// seenBy reports whether all are in a snapshot (xmin:xmax:xid,xid,… of transactions under way); true for none.
func (r recent) seenBy(snapshot string) bool {
	parts := strings.Split(snapshot, ":")
	if len(parts) != 3 {
		return true
	}
	xmax, err := strconv.ParseUint(parts[1], 10, 64)
	if err != nil {
		return true
	}
	open := map[uint32]bool{}
	for _, xid := range strings.Split(parts[2], ",") {
		if n, err := strconv.ParseUint(xid, 10, 64); err == nil {
			open[uint32(n)] = true
		}
	}
	return !slices.ContainsFunc(r, func(xid uint32) bool { return open[xid] || int32(xid-uint32(xmax)) >= 0 })
}
