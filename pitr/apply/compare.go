package apply

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/internal/ddl"
)

// compare checks that the relations which the change made or altered are what they became at the source,
// where the server is of the same major version: others print the same thing in other words. What another
// transaction has committed after the statement and before its commit is here already, and was not there then:
// locks don't keep a table's name, its parents' and its children's from being changed meanwhile.
func (e *execution) compare(ctx context.Context, conn *pgconn.PgConn) error {
	if len(e.message.State) == 0 || e.choice == Try || !e.alone {
		return nil
	}
	rows, err := queryOn(ctx, conn, "select current_setting('server_version_num')")
	if err != nil {
		return err
	}
	if int(atoi(rows[0][0]))/10000 != e.message.ServerVersion/10000 {
		return nil
	}
	// The settings are the savepoint's, and go with it.
	if _, err := conn.Exec(ctx, "SAVEPOINT tidemark_compare; "+ddl.FingerprintSettings).ReadAll(); err != nil {
		return err
	}
	for _, st := range e.message.State {
		if err := compareRelation(ctx, conn, st); err != nil {
			return err
		}
	}
	_, err = conn.Exec(ctx, "ROLLBACK TO SAVEPOINT tidemark_compare; RELEASE SAVEPOINT tidemark_compare").ReadAll()
	return err
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
