package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"
)

func (s *Server) connect(ctx context.Context, database string) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig(s.SocketDSN(database))
	if err != nil {
		return nil, err
	}
	cfg.RuntimeParams["client_encoding"] = "UTF8" // whatever the database's own is
	return pgx.ConnectConfig(ctx, cfg)
}

// Connect opens a connection that ends with the test. It fails the test if it can't.
func (s *Server) Connect(tb TB, database string) *pgx.Conn {
	tb.Helper()
	conn, err := s.connect(context.Background(), database)
	if err != nil {
		tb.Fatalf("connecting to %s: %v", database, err)
		return nil
	}
	tb.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// Exec runs SQL, one statement or several, in a session of its own.
func (s *Server) Exec(ctx context.Context, database, sql string) error {
	conn, err := s.connect(ctx, database)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol)
	return err
}

// MustExec is Exec, failing the test on an error.
func (s *Server) MustExec(tb TB, database, sql string) {
	tb.Helper()
	if err := s.Exec(context.Background(), database, sql); err != nil {
		tb.Fatalf("%s: %v", sql, err)
	}
}

// Query returns the one value, as text, of a query with one row and one column; NULL is "".
func (s *Server) Query(ctx context.Context, database, sql string, args ...any) (string, error) {
	conn, err := s.connect(ctx, database)
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	var value *string
	row := conn.QueryRow(ctx, sql, append([]any{pgx.QueryExecModeSimpleProtocol}, args...)...)
	if err := row.Scan(&value); err != nil || value == nil {
		return "", err
	}
	return *value, nil
}

// MustQuery is Query, failing the test on an error.
func (s *Server) MustQuery(tb TB, database, sql string, args ...any) string {
	tb.Helper()
	value, err := s.Query(context.Background(), database, sql, args...)
	if err != nil {
		tb.Fatalf("%s: %v", sql, err)
	}
	return value
}

// CreateDatabase makes an empty database and returns its DSN. It fails the test if it can't.
func (s *Server) CreateDatabase(tb TB, name string) string {
	tb.Helper()
	s.MustExec(tb, "postgres", "CREATE DATABASE "+pgx.Identifier{name}.Sanitize()+" TEMPLATE template0")
	return s.DSN(name)
}

// Ping connects with a DSN and disconnects.
func Ping(ctx context.Context, dsn string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}
