package basesnapshot

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
)

func TestConnectionStringsLoseTheirSecrets(t *testing.T) {
	for in, want := range map[string]string{
		"host=a dbname=b":                     "host=a dbname=b",
		"host=a password=x":                   "host='a' password='redacted'",
		`password = 'it\'s \\ x' user=u`:      "password='redacted' user='u'",
		"postgres://u:p%40@h1:1,h2:2/db?a=b":  "user='u' password='redacted' host='h1,h2' port='1,2' dbname='db' a='b'",
		"postgresql://[::1]:5/db?password=x":  "host='::1' port='5' dbname='db' password='redacted'",
		"postgresql://u@h/db?sslmode=disable": "postgresql://u@h/db?sslmode=disable",
		"user=u passfile=/x sslpassword=y":    "user='u' passfile='redacted' sslpassword='redacted'",
		"password='unfinished":                redacted,
		"no equals sign":                      redacted,
		"postgresql://u:%zz@h/db":             redacted,
		"":                                    "",
	} {
		require.Equal(t, want, redactConninfo(in), in)
	}
}

func TestRedactionKeepsEverythingElse(t *testing.T) {
	for _, sql := range []string{
		"CREATE SERVER s FOREIGN DATA WRAPPER w OPTIONS (\n    host 'pass''word',\n    \"Odd \"\"name\" E'a\\\\b'\n);\n",
		"CREATE SERVER unfinished 'abc", "", "''", "E'", `"`,
	} {
		it := SchemaItem{Kind: "SERVER", SQL: sql}
		redactItem(&it)
		require.Equal(t, sql, it.SQL)
		require.False(t, it.Redacted)
	}
	it := SchemaItem{Kind: "SERVER", SQL: `OPTIONS (user 'u', access_key E'x\\''y', "API Key" 'k', "api_key" 'k')`}
	redactItem(&it)
	require.Equal(t, `OPTIONS (user 'u', access_key E'redacted', "API Key" 'redacted', "api_key" 'redacted')`, it.SQL)
	subscription := SchemaItem{Kind: "SUBSCRIPTION", SQL: `CONNECTION E'user=''o\\''b'' password=x' PUBLICATION p`}
	redactItem(&subscription)
	require.Equal(t, `CONNECTION E'user=''o\\''b'' password=''redacted''' PUBLICATION p`, subscription.SQL)
	function := SchemaItem{Kind: "FUNCTION", SQL: "SELECT 'password=x'"}
	redactItem(&function)
	require.Equal(t, "SELECT 'password=x'", function.SQL)
	require.Equal(t, Setting{Name: "password_encryption", Value: "md5"}, newSetting("", "password_encryption=md5"))
}

func TestPgDumpGetsTheConnectionByEnvironment(t *testing.T) {
	dsn := "postgres://me:p%20w@db.example:6000/shop?sslmode=verify-full&sslrootcert=/ca.pem&connect_timeout=7"
	cfg, err := pgconn.ParseConfig("postgres://me:p%20w@db.example:6000/shop")
	require.NoError(t, err)
	env, err := dumpEnv([]string{"PATH=/bin", "PGHOST=elsewhere", "PGPASSWORD=old", "PGCLIENTENCODING=LATIN1"}, dsn, cfg, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 9), Port: 6001})
	require.NoError(t, err)
	slices.Sort(env)
	require.Equal(t, []string{"LC_ALL=C", "PATH=/bin", "PGAPPNAME=tidemark snapshot", "PGCONNECT_TIMEOUT=7", "PGDATABASE=shop", "PGHOST=db.example", "PGHOSTADDR=127.0.0.9",
		"PGOPTIONS=" + dumpOptions, "PGPASSWORD=p w", "PGPORT=6001", "PGSSLMODE=verify-full", "PGSSLROOTCERT=/ca.pem", "PGUSER=me"}, env)
	require.Empty(t, dumpTarget(env))
	env, err = dumpEnv(nil, "service=x dbname='it''s'", cfg, &net.UnixAddr{Name: "/run"})
	require.Error(t, err)
	env, err = dumpEnv(nil, `service=x dbname='it\'s'`, cfg, &net.UnixAddr{Name: "/run"})
	require.NoError(t, err)
	require.Contains(t, dumpTarget(env), "dbname='shop'")
	require.NotContains(t, dumpTarget(env), "p w")
	_, err = dumpEnv(nil, "sslpassword=x", cfg, &net.UnixAddr{})
	require.ErrorContains(t, err, "sslpassword")
}

// TestPgDumpsArgumentsHoldNoSecret puts a program before pg_dump that notes its arguments.
func TestPgDumpsArgumentsHoldNoSecret(t *testing.T) {
	_, dsn := newDatabase(t)
	require.Contains(t, dsn, "server-password")
	folder := t.TempDir()
	script := filepath.Join(folder, "pg_dump")
	noted := filepath.Join(folder, "noted")
	require.NoError(t, os.WriteFile(script, []byte("#!/bin/sh\necho \"$@\" >>"+noted+"\nexec "+testServer().Path("pg_dump")+" \"$@\"\n"), 0o755))
	o := options(dsn, newStore(t))
	o.PgDump = script
	take(t, o)
	arguments, err := os.ReadFile(noted)
	require.NoError(t, err)
	require.Contains(t, string(arguments), "--schema-only")
	require.NotContains(t, string(arguments), "server-password")
	require.NotContains(t, string(arguments), "127.0.0.1")
}
