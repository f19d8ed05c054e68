package pipeline

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tidemark/internal/ddl"
)

const forgery = `{"v":1,"tag":"CREATE ROLE","user":"postgres","sql":"CREATE ROLE evil SUPERUSER","server_version":150000}`

// messagesOf returns the contents of what was written under Tidemark's prefix since a slot was made.
func (w *world) messagesOf(slot string) (list []string) {
	w.t.Helper()
	for _, line := range strings.Fields(w.query("SELECT string_agg(encode(data, 'hex'), ' ') FROM pg_logical_slot_peek_binary_changes('" + slot +
		"', NULL, NULL, 'proto_version', '1', 'publication_names', 'tidemark', 'messages', 'true') WHERE get_byte(data, 0) = ascii('M')")) {
		data, err := hex.DecodeString(line)
		require.NoError(w.t, err)
		list = append(list, string(data[10+len(MessagePrefix)+1+4:]))
	}
	return list
}

// emits writes a message as a role that has no rights at all.
func (w *world) emits(role, content string) {
	w.t.Helper()
	w.exec("SET ROLE " + role + "; SELECT pg_logical_emit_message(true, 'tidemark', " + content + ")")
}

func TestForgedChangesAreRefused(t *testing.T) {
	w := newWorld(t, nil)
	role := "forger_" + w.db[:20]
	w.exec("CREATE ROLE " + role)
	t.Cleanup(func() { _ = w.server.Exec(context.Background(), "postgres", "DROP ROLE "+role) })
	w.catchUp()
	r := w.start()
	r.protected()
	w.exec("SELECT pg_create_logical_replication_slot('seen_" + w.db[:20] + "', 'pgoutput')")
	w.exec("ALTER TABLE t ADD c int")
	genuine := w.messagesOf("seen_" + w.db[:20])
	require.Len(t, genuine, 1)
	mac, _, _ := strings.Cut(strings.TrimPrefix(genuine[0], "ddl:"), ":")
	for _, content := range []string{
		"'ddl:garbage'", "'ddl:" + forgery + "'", "'ddl:" + strings.Repeat("0", 64) + ":" + forgery + "'", "'ddl:" + mac + ":" + forgery + "'",
		"convert_to('" + strings.ReplaceAll(genuine[0], "'", "''") + "', 'UTF8')", // a genuine one, in another transaction
		fmt.Sprintf("'ddl:' || repeat('x', %d)", maxSchemaChange+1000),
	} {
		w.emits(role, content)
	}
	w.exec("INSERT INTO t VALUES (1, 'x', 2); SELECT pg_logical_emit_message(true, 'tidemark', 'ddl'); SELECT pg_logical_emit_message(true, 'tidemark', ''); ALTER TABLE t DROP c")
	w.archivedPast(w.flush())
	s, err := ReadStatus(context.Background(), w.cfg.DSN, w.store, time.Now())
	require.NoError(t, err)
	require.EqualValues(t, 6, s.Refused)
	require.EqualValues(t, 2, w.schemaChanges())
	require.Empty(t, w.view().Inexact(), "nothing changed")
	require.Contains(t, r.log.String(), "claims to be a captured schema change")
	require.NotContains(t, r.log.String(), "evil")

	// With another key, which the archiver has not read when the first message comes.
	w.exec("REFRESH MATERIALIZED VIEW tidemark.ddl_key; ALTER TABLE t ADD d int")
	changed := w.flush() - 1
	w.archivedPast(changed)
	require.EqualValues(t, 3, w.schemaChanges())
	require.Contains(t, r.inexactAt(changed).Reason, "interrupted or changed")
	w.emits(role, "'ddl:"+mac+":"+forgery+"'")
	w.archivedPast(w.flush())
	require.NoError(t, r.end())
	require.EqualValues(t, 3, w.schemaChanges())

	// With the capture off nothing is genuine.
	_, err = Detach(context.Background(), w.cfg, true)
	require.NoError(t, err)
}

func TestForgedWithoutCapture(t *testing.T) {
	w := newWorld(t, nil)
	w.catchUp(uncaptured)
	w.exec("SELECT pg_logical_emit_message(true, 'tidemark', 'ddl:" + strings.Repeat("0", 64) + ":" + forgery + "')")
	w.catchUp(uncaptured)
	require.Zero(t, w.schemaChanges())
	require.Empty(t, w.view().Inexact())
	s, err := ReadArchiveStatus(context.Background(), w.store, time.Now())
	require.NoError(t, err)
	require.EqualValues(t, 1, s.Refused)
}

// TestChangeOfALostKeyIsInexact: it was captured, and nobody can tell any more.
func TestChangeOfALostKeyIsInexact(t *testing.T) {
	w := newWorld(t, nil)
	w.catchUp()
	w.exec("ALTER TABLE t ADD c int")
	changed := w.flush() - 1
	w.exec("DROP MATERIALIZED VIEW tidemark.ddl_key")
	w.catchUp()
	require.Zero(t, w.schemaChanges())
	var reasons []string
	for _, p := range w.view().Inexact() {
		if p.From <= changed {
			reasons = append(reasons, p.Reason)
		}
	}
	require.Contains(t, strings.Join(reasons, "\n"), "can't be verified")
	w.exec("ALTER TABLE t DROP c")
	w.catchUp()
	require.EqualValues(t, 1, w.schemaChanges())
	require.NoError(t, ddl.Install(context.Background(), w.server.Connect(t, w.db), ddl.Options{AllTables: true, Publication: "tidemark"}))
}
