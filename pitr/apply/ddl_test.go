package apply

import (
	"encoding/json"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/internal/ddl"
	"tidemark/internal/fault"
	"tidemark/segment"
)

// schemaChange is the record of a change, and how it is announced.
func schemaChange(t *testing.T, at segment.LSN, m ddl.Message) (segment.Record, Announced) {
	t.Helper()
	m.Version, m.User, m.ServerVersion = 1, "postgres", 150000
	text, err := json.Marshal(m)
	require.NoError(t, err)
	content := ddl.Seal(nil, text)
	return segment.Record{Op: segment.OpMessage, Message: segment.MessageHeader{Transactional: true, LSN: at, Prefix: ddl.Prefix, Size: int64(len(content))},
		Content: segment.Value{Kind: segment.Text, Data: content}}, Announced{CommitLSN: at, LSN: at, Message: &m}
}

// withChange is a transaction that makes a schema change after its first operation.
func withChange(t *testing.T, n int, m ddl.Message) ([]segment.Record, []Announced) {
	t.Helper()
	records := transaction(n)
	change, announced := schemaChange(t, records[0].Begin.CommitLSN, m)
	return append(append(append([]segment.Record{}, records[:2]...), change), records[2:]...), []Announced{announced}
}

// TestRefusedMessageIsNoSchemaChange: the archiver wrote it under another prefix.
func TestRefusedMessageIsNoSchemaChange(t *testing.T) {
	record, _ := schemaChange(t, 1, ddl.Message{Tag: "CREATE TABLE", SQL: "CREATE TABLE x (a int)"})
	m, err := DecodeChange(&record)
	require.NoError(t, err)
	require.Equal(t, "CREATE TABLE x (a int)", m.SQL)
	record.Message.Prefix = ddl.RefusedPrefix
	m, err = DecodeChange(&record)
	require.NoError(t, err)
	require.Nil(t, m)
}

// TestSchemaChangeIsABatchOfItsOwn: what came before is committed, and what comes with the change is undone with it.
func TestSchemaChangeIsABatchOfItsOwn(t *testing.T) {
	d := newTarget(t, "changes")
	server.MustExec(t, d.name, `CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'fired'; END $$;
CREATE TRIGGER note BEFORE INSERT ON numbers FOR EACH ROW EXECUTE FUNCTION note(); ALTER TABLE numbers ENABLE ALWAYS TRIGGER note`)
	a, err := New(t.Context(), Options{Connect: d.connect, Atomic: &Atomic{Progress: note}, Schema: &Schema{}})
	require.NoError(t, err)
	feed(t, a, transaction(1))
	records, announced := withChange(t, 2, ddl.Message{Tag: "CREATE TYPE", SQL: "CREATE TYPE public.mood AS ENUM ('a')"})
	a.Announce(announced)
	feed(t, a, records[:1])
	require.NoError(t, a.sendWait(a.workers[0], command{}))
	require.Equal(t, "1", d.value("select n::text from progress"))
	feed(t, a, records[1:])
	// A value can't be used in the transaction that adds it.
	records, announced = withChange(t, 3, ddl.Message{Tag: "ALTER TYPE", SQL: "ALTER TYPE public.mood ADD VALUE 'b'"})
	a.Announce(announced)
	feed(t, a, records)
	records, announced = withChange(t, 4, ddl.Message{Tag: "CREATE TABLE", SQL: "CREATE TABLE public.moody (m public.mood DEFAULT 'b'::public.mood)"})
	a.Announce(announced)
	feed(t, a, records)
	feed(t, a, transaction(5))
	records, announced = withChange(t, 6, ddl.Message{Tag: "CREATE TABLE", SQL: "CREATE TABLE public.moody (again int)"})
	a.Announce(announced)
	feed(t, a, records[:2])
	err = a.Apply(t.Context(), &records[2])
	require.Equal(t, fault.Failed, fault.CodeOf(err))
	require.ErrorContains(t, err, `CREATE TABLE (CREATE TABLE public.moody (again int)), transaction 6, LSN 0/258: `)
	a.Abort()
	require.Equal(t, "5 15", d.value("select p.n || ' ' || count(*) from progress p, numbers group by p.n"))

	// The next process finds what is held back, goes past the change if told to, and puts all back in the end.
	var notes []string
	a, err = New(t.Context(), Options{Connect: d.connect, Atomic: &Atomic{Progress: note}, Schema: &Schema{AcceptInexact: true, Note: func(s string) { notes = append(notes, s) }}})
	require.NoError(t, err)
	a.Announce(announced)
	feed(t, a, records)
	_, err = a.Finish(t.Context())
	require.NoError(t, err)
	require.Len(t, notes, 1)
	require.True(t, a.Doubted())
	require.Equal(t, "6 18 D", d.value("select p.n || ' ' || count(*) || ' ' || (select tgenabled::text from pg_trigger where tgname = 'note') from progress p, numbers group by p.n"))
	conn, err := d.connect(t.Context())
	require.NoError(t, err)
	require.NoError(t, Release(t.Context(), conn))
	require.Equal(t, "A 0", d.value("select tgenabled::text || ' ' || (select count(*) from pg_namespace where nspname = 'tidemark_replay') from pg_trigger where tgname = 'note'"))
	require.NoError(t, conn.Close(t.Context()))
}

// TestFingerprintsOfAnotherVersion: they are not compared, and that is said once.
func TestFingerprintsOfAnotherVersion(t *testing.T) {
	d := newTarget(t, "versions")
	var notes []string
	a, err := New(t.Context(), Options{Connect: d.connect, Atomic: &Atomic{Progress: note}, Schema: &Schema{Note: func(s string) { notes = append(notes, s) }}})
	require.NoError(t, err)
	for n, fp := range []string{"9:0123", "0123"} {
		name := "made_" + strconv.Itoa(n)
		records, announced := withChange(t, n+1, ddl.Message{Tag: "CREATE TABLE", SQL: "CREATE TABLE public." + name + " (a int)",
			State: []ddl.RelationState{{Schema: "public", Name: name, Fingerprint: fp}}})
		a.Announce(announced)
		feed(t, a, records)
	}
	require.NoError(t, a.Flush(t.Context()))
	require.Len(t, notes, 1)
	require.Contains(t, notes[0], "not compared with the source")
	records, announced := withChange(t, 3, ddl.Message{Tag: "CREATE TABLE", SQL: "CREATE TABLE public.other (a int)",
		State: []ddl.RelationState{{Schema: "public", Name: "other", Fingerprint: ddl.FingerprintVersion + ":0123"}}})
	a.Announce(announced)
	feed(t, a, records[:2])
	require.ErrorContains(t, a.Apply(t.Context(), &records[2]), "public.other is not what it became at the source")
	a.Abort()
}
