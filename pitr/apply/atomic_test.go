package apply

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"tidemark/internal/testserver/postgres"
	"tidemark/segment"
)

var server *postgres.Server

func TestMain(m *testing.M) {
	var err error
	if server, err = postgres.Launch(postgres.Options{}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if err := server.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

// target is a database to apply to, with a row that says how far it came.
type target struct {
	t    *testing.T
	name string
}

const int4OID = 23

var numbers = &segment.Relation{ID: 1, Namespace: "public", Name: "numbers", Identity: 'd', Columns: []segment.Column{
	{Flags: 1, Name: "id", TypeOID: int4OID, Modifier: -1}, {Name: "n", TypeOID: int4OID, Modifier: -1}}}

func newTarget(t *testing.T, name string) *target {
	t.Helper()
	server.CreateDatabase(t, name)
	server.MustExec(t, name, `CREATE TABLE numbers (id int PRIMARY KEY, n int); CREATE TABLE progress (lsn pg_lsn, n bigint); INSERT INTO progress VALUES ('0/0', 0)`)
	return &target{t: t, name: name}
}

func (d *target) connect(ctx context.Context) (*pgconn.PgConn, error) {
	conn, err := pgconn.Connect(ctx, server.DSN(d.name))
	if err != nil {
		return nil, err
	}
	_, err = conn.Exec(ctx, "SET session_replication_role = replica; SET search_path = ''; SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off").ReadAll()
	return conn, err
}

func note(ctx context.Context, conn *pgconn.PgConn, at Position) error {
	_, err := conn.Exec(ctx, fmt.Sprintf("UPDATE public.progress SET lsn = '%s', n = n + %d", at.EndLSN, at.Transactions)).ReadAll()
	return err
}

func (d *target) applier(o Atomic) *Applier {
	d.t.Helper()
	if o.Progress == nil {
		o.Progress = note
	}
	a, err := New(d.t.Context(), Options{Connect: d.connect, Workers: 4, Atomic: &o})
	require.NoError(d.t, err)
	return a
}

func (d *target) value(sql string) string {
	d.t.Helper()
	var s string
	require.NoError(d.t, server.Connect(d.t, d.name).QueryRow(d.t.Context(), sql).Scan(&s))
	return s
}

func text(n int) segment.Value {
	return segment.Value{Kind: segment.Text, Data: []byte(strconv.Itoa(n))}
}

// transaction is the n-th: it adds three rows and changes one of the transaction before it.
func transaction(n int) []segment.Record {
	at := segment.LSN(n * 100)
	out := []segment.Record{{Op: segment.OpBegin, Begin: segment.Begin{CommitLSN: at, XID: uint32(n)}}}
	for i := range 3 {
		out = append(out, segment.Record{Op: segment.OpInsert, Relation: numbers, New: []segment.Value{text(3*n + i), text(0)}})
	}
	if n > 1 {
		out = append(out, segment.Record{Op: segment.OpUpdate, Relation: numbers, New: []segment.Value{text(3 * (n - 1)), text(n)}})
	}
	return append(out, segment.Record{Op: segment.OpCommit, Commit: segment.Commit{CommitLSN: at, EndLSN: at + 50}})
}

func feed(t *testing.T, a *Applier, records []segment.Record) {
	t.Helper()
	for i := range records {
		require.NoError(t, a.Apply(t.Context(), &records[i]))
	}
}

func TestBatchesCommitWithTheirPosition(t *testing.T) {
	d := newTarget(t, "batches")
	a := d.applier(Atomic{MaxTransactions: 7})
	for n := 1; n <= 50; n++ {
		feed(t, a, transaction(n))
	}
	require.NoError(t, a.Flush(t.Context()))
	require.Equal(t, "50", d.value("select n::text from progress"))
	// A transaction that isn't whole is not flushed, and gone with the applier.
	for n := 51; n <= 60; n++ {
		feed(t, a, transaction(n))
	}
	rest := transaction(61)
	feed(t, a, rest[:3])
	require.ErrorContains(t, a.Flush(t.Context()), "inside transaction 61")
	a.Abort()
	done, err := strconv.Atoi(d.value("select n::text from progress"))
	require.NoError(t, err)
	require.GreaterOrEqual(t, done, 50)
	require.LessOrEqual(t, done, 60)
	require.Equal(t, segment.LSN(done*100+50).String(), d.value("select lsn::text from progress"))
	require.Equal(t, strconv.Itoa(3*done), d.value("select count(*)::text from numbers"))
	require.Equal(t, strconv.Itoa(done-1), d.value("select count(*)::text from numbers where n <> 0"))

	a = d.applier(Atomic{})
	for n := done + 1; n <= done+3; n++ {
		feed(t, a, transaction(n))
		require.NoError(t, a.EndBatch(400))
	}
	require.NoError(t, a.EndBatch(1<<20))
	conn := server.Connect(t, d.name)
	require.Eventually(t, func() bool {
		var n int
		return conn.QueryRow(t.Context(), "select n from progress").Scan(&n) == nil && n == done+2
	}, 10*time.Second, 10*time.Millisecond,
		"two transactions make a batch of 400 bytes")
	a.Abort()
	done += 2

	a = d.applier(Atomic{MaxBytes: 1})
	for n := done + 1; n <= 70; n++ {
		feed(t, a, transaction(n))
	}
	a.Advance(Position{CommitLSN: 7000, EndLSN: 7777})
	counts, err := a.Finish(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 3*(70-done), counts["public.numbers"].Inserted)
	require.Equal(t, "70 0/1E61", d.value("select n || ' ' || lsn from progress"))
	require.Equal(t, "210", d.value("select count(*)::text from numbers"))
}

func TestBatchIsUndoneWithItsPosition(t *testing.T) {
	d := newTarget(t, "undone")
	full := errors.New("no room for progress")
	a := d.applier(Atomic{Progress: func(ctx context.Context, conn *pgconn.PgConn, at Position) error {
		if at.CommitLSN > 200 {
			return full
		}
		return note(ctx, conn, at)
	}})
	feed(t, a, transaction(1))
	feed(t, a, transaction(2))
	require.NoError(t, a.Flush(t.Context()))
	// A TRUNCATE inside a transaction belongs to it.
	feed(t, a, []segment.Record{
		{Op: segment.OpBegin, Begin: segment.Begin{CommitLSN: 300, XID: 3}},
		{Op: segment.OpTruncate, Truncate: segment.Truncate{Relations: []uint32{1}}, TruncateRelations: []*segment.Relation{numbers}},
		{Op: segment.OpInsert, Relation: numbers, New: []segment.Value{text(1), text(1)}},
		{Op: segment.OpCommit, Commit: segment.Commit{CommitLSN: 300, EndLSN: 350}},
	})
	require.ErrorIs(t, a.Flush(t.Context()), full)
	a.Abort()
	require.Equal(t, "2 6", d.value("select p.n || ' ' || count(*) from progress p, numbers group by p.n"))
}

// TestBatchThatTheServerRollsBack: COMMIT of a failed transaction is no error to the server.
func TestBatchThatTheServerRollsBack(t *testing.T) {
	d := newTarget(t, "rolled_back")
	a := d.applier(Atomic{Progress: func(ctx context.Context, conn *pgconn.PgConn, _ Position) error {
		_, err := conn.Exec(ctx, "SELECT 1 / 0").ReadAll()
		require.Error(t, err)
		return nil
	}})
	feed(t, a, transaction(1))
	require.ErrorContains(t, a.Flush(t.Context()), "ROLLBACK")
	a.Abort()
	require.Equal(t, "0", d.value("SELECT count(*)::text FROM numbers"))
}
