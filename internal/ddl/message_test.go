package ddl_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/internal/ddl"
)

func sealed(body string) string { return string(ddl.Seal([]byte("key"), []byte(body))) }

func TestDecode(t *testing.T) {
	for content, want := range map[string]string{
		``:                                    `a schema change begins with "ddl:"`,
		`mark:x`:                              `a schema change begins with "ddl:"`,
		`ddl:{"v":1,"tag":"x"}`:               "schema change without authentication",
		sealed(`{`):                           "schema change: unexpected end of JSON input",
		sealed(`{"v":2,"tag":"x"}`):           "schema change of format version 2: this program knows 1",
		sealed(`{"v":1}`):                     "schema change without a command tag",
		sealed(`{"v":1,"tag":"x","sql":"y"}`): "schema change without the role that made it",
		sealed(`{"v":1,"tag":"x","bytes":true,"user":"u","sql":"€"}`): "schema change in bytes with the character U+20AC",
	} {
		_, err := ddl.Decode([]byte(content))
		require.EqualError(t, err, want)
	}
	m, err := ddl.Decode([]byte(sealed(`{"v":1,"tag":"CREATE TABLE","bytes":true,"user":"u","sql":"CREATE TABLE é (a int)","tables":["public.é"],
		"objects":[{"type":"table","schema":"public","name":"é","identity":"public.\"é\"","oid":4294967295}],"set":{"search_path":"ü"}}`)))
	require.NoError(t, err)
	require.Equal(t, "CREATE TABLE \xe9 (a int)", m.SQL)
	require.Equal(t, "\xe9", m.Objects[0].Name)
	require.Equal(t, []string{"public.\xe9"}, m.TableNames())
	require.Equal(t, "\xfc", m.Settings["search_path"])
}

func TestRelations(t *testing.T) {
	m := &ddl.Message{
		Objects: []ddl.Object{{Type: "sequence", OID: 1, Schema: "s", Name: "q"}, {Type: "table", OID: 2, Schema: "s", Name: "t"}, {Type: "table", OID: 2, Schema: "s", Name: "t"}, {Type: "index", OID: 3}},
		Dropped: []ddl.Object{{Type: "materialized view", OID: 4, Schema: "a", Name: "m"}, {Type: "table column", OID: 2}},
		State:   []ddl.RelationState{{Schema: "s", Name: "t"}},
		Tables:  []string{"z.z"},
	}
	require.Equal(t, []ddl.Object{{Type: "table", OID: 2, Schema: "s", Name: "t"}}, m.Relations())
	require.Equal(t, []ddl.Object{{Type: "materialized view", OID: 4, Schema: "a", Name: "m"}}, m.DroppedRelations())
	require.Equal(t, []string{"a.m", "s.t", "z.z"}, m.TableNames())
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(sealed(`{"v":1,"tag":"CREATE TABLE","user":"u","sql":"CREATE TABLE t ()","objects":[{"type":"table","oid":1}],"bytes":true}`)))
	f.Fuzz(func(t *testing.T, content []byte) {
		m, err := ddl.Decode(content)
		if err != nil {
			return
		}
		m.TableNames()
		m.Bytes = false // strings are bytes already
		again, err := json.Marshal(m)
		require.NoError(t, err)
		_, err = ddl.Decode(ddl.Seal(nil, again))
		require.NoError(t, err)
	})
}
