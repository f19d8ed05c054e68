package config

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/internal/fault"
)

func TestKeysJoinWithHyphens(t *testing.T) {
	f, err := parse("t.yaml", []byte(`# settings
archive: s3://bucket/prefix?region=eu-west-1
snapshot: {schedule: "0 3 * * *"}
segment:
  max-age: 30s
  max-size: 64MiB
table: [public.orders, "shop.*"]
new-archive: true
jobs: 4
source: |-
  host=db user=tidemark
`), nil)
	require.NoError(t, err)
	for key, want := range map[string]any{
		"archive":           "s3://bucket/prefix?region=eu-west-1",
		"snapshot-schedule": "0 3 * * *",
		"segment-max-age":   "30s",
		"segment-max-size":  "64MiB",
		"table":             []any{"public.orders", "shop.*"},
		"new-archive":       "true",
		"jobs":              "4",
		"source":            "host=db user=tidemark",
	} {
		got, ok := f.Lookup(key)
		require.True(t, ok, key)
		require.Equal(t, want, got, key)
	}
	require.Equal(t, "t.yaml:3", f.Where("snapshot-schedule"))
	_, ok := f.Lookup("listen")
	require.False(t, ok)
}

func TestEmptyFileIsNoError(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "---\n"} {
		_, err := parse("t.yaml", []byte(text), nil)
		require.NoError(t, err, "%q", text)
	}
}

func TestBadFilesNameFileLineAndWayOut(t *testing.T) {
	for _, c := range []struct{ text, message, hint string }{
		{"archive: x\nsegment-maxage: 3s\n", `t.yaml:2: unknown key "segment-maxage"`, "did you mean segment-max-age?"},
		{"snapshot:\n  schedul: x\n", `t.yaml:2: unknown key "snapshot-schedul"`, "did you mean snapshot-schedule?"},
		{"snapshoot:\n  schedule: x\n", `t.yaml:1: unknown key "snapshoot"`, "--help"},
		{"zzzzzzzzzzzz: 1\n", `t.yaml:1: unknown key "zzzzzzzzzzzz"`, "--help"},
		{"archive:\n", "t.yaml:1: archive has no value", "correct the file"},
		{"table: [a, {b: c}]\n", "t.yaml:1: table must be a single value or a list of values", "correct the file"},
		{"segment: {max-age: 1s}\nsegment-max-age: 2s\n", "t.yaml:2: segment-max-age is set a second time (first in line 1)", "correct the file"},
		{"archive: a\narchive: b\n", "t.yaml:2: ", "valid YAML"},
		{"archive: a\n---\nslot: b\n", "t.yaml:3: a second document", "correct the file"},
		{"- archive\n", "t.yaml:1: expected keys and values", "correct the file"},
		{"just words\n", "t.yaml:1: expected keys and values", "correct the file"},
		{"archive: [a\n", "t.yaml:1: ", "valid YAML"},
		{"archive: *anchor\n", "t.yaml:1: ", ""},
	} {
		_, err := parse("t.yaml", []byte(c.text), nil)
		require.Error(t, err, c.text)
		require.Contains(t, err.Error(), c.message, c.text)
		require.NotContains(t, err.Error(), "\n")
		require.Contains(t, fault.HintOf(err), c.hint, c.text)
		require.Equal(t, fault.Usage, fault.CodeOf(err))
	}
}

func TestMissingFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none.yaml")
	_, err := Load(path, nil)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.Equal(t, "can't read "+path+": no such file or directory", err.Error())
	require.Equal(t, fault.Usage, fault.CodeOf(err))
}

func TestNearest(t *testing.T) {
	require.Equal(t, "archive", Nearest("archve", Keys()))
	require.Equal(t, "", Nearest("colour", Keys()))
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("archive: x\nsnapshot: {schedule: '0 3 * * *'}\ntable: [a, b]\n"))
	f.Add([]byte("a: &x 1\nb: *x\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if _, err := parse("t.yaml", text, nil); err != nil {
			require.Equal(t, fault.Usage, fault.CodeOf(err))
		}
	})
}
