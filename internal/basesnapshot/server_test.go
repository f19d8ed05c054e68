package basesnapshot

import (
	"context"
	_ "embed"
	"fmt"
	"log"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"tidemark/internal/testserver/postgres"
)

// testServer is shared by the tests of the package; each makes its own databases. It is started when first
// needed: fuzzing needs none.
var testServer = sync.OnceValue(func() *postgres.Server {
	server, err := postgres.Launch(postgres.Options{Version: "15", Password: "server-password"})
	if err != nil {
		log.Fatal(err)
	}
	launched = server
	return server
})

var launched *postgres.Server

func TestMain(m *testing.M) {
	code := m.Run()
	if launched != nil {
		if err := launched.Close(); err != nil {
			log.Print(err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

var databases atomic.Int32

// newDatabase makes a database and returns its name and DSN.
func newDatabase(t testing.TB) (name, dsn string) {
	name = fmt.Sprintf("db%d", databases.Add(1))
	return name, testServer().CreateDatabase(t, name)
}

//go:embed testdata/schema.sql
var richSchema string

// newRichDatabase fills a database with testdata/schema.sql. Roles are the server's, so they are made once.
func newRichDatabase(t testing.TB) (name, dsn string) {
	name, dsn = newDatabase(t)
	sql := richSchema
	if testServer().MustQuery(t, "postgres", "SELECT count(*) FROM pg_roles WHERE rolname = 'unrelated'") == "1" {
		_, sql, _ = strings.Cut(sql, "\n\n")
	}
	runAll(t, name, sql)
	return name, dsn
}

// runAll runs the statements of a script one by one: some can't be run in a transaction.
func runAll(t testing.TB, database, sql string) {
	conn := testServer().Connect(t, database)
	depth := false
	var statement strings.Builder
	for line := range strings.Lines(sql) {
		if strings.Count(line, "$$")%2 == 1 {
			depth = !depth
		}
		statement.WriteString(line)
		if !depth && strings.HasSuffix(strings.TrimSpace(line), ";") {
			_, err := conn.Exec(context.Background(), statement.String(), pgx.QueryExecModeSimpleProtocol)
			require.NoError(t, err, statement.String())
			statement.Reset()
		}
	}
	require.Empty(t, strings.TrimSpace(statement.String()))
}
