package lab

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// Connect opens a connection, which the caller closes.
func Connect(ctx context.Context, dsn string) (*pgx.Conn, error) { return pgx.Connect(ctx, dsn) }
