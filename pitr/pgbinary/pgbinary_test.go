package pgbinary

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"tidemark/internal/testserver/postgres"
)

// types are those with a form of their own, and expressions over n, from 1 on, that make values of them.
var types = []struct {
	name   string
	kind   Kind
	values []string // written out
	random string   // an expression, with n
}{
	{"text", Raw, []string{"", "x", `\`, `\N`, `\.`, "\ttab", "line\nfeed\r", "\b\f\v", "ä€😀", strings.Repeat("long", 30000)}, "md5(n::text)"},
	{"varchar(5)", Raw, []string{"", "abcde", `a\b`}, "left(md5(n::text), n % 6)"},
	{"char(5)", Raw, []string{"", "abcde", "a"}, "left(md5(n::text), n % 6)"},
	{"json", Raw, []string{`{"a":  [1, "\\ \n\u00e9"]}`, "null"}, `json_build_object('n', n)`},
	{"jsonb", JSONB, []string{`{"a": [1, "\\ \n\u00e9", 1.0e5]}`, "null"}, `jsonb_build_object('n', n)`},
	{"mood", Raw, []string{"fine", "it's\t so"}, "'fine'"},
	{"bool", Bool, []string{"t", "f"}, "n % 2 = 0"},
	{"int2", Int2, []string{"0", "-1", "32767", "-32768"}, "(random() * 65535 - 32768)::int"},
	{"int4", Int4, []string{"0", "-1", "2147483647", "-2147483648"}, "(random() * 4294967295 - 2147483648)::bigint"},
	{"int8", Int8, []string{"0", "-1", "9223372036854775807", "-9223372036854775808"}, "((random() - 0.5) * 10::numeric ^ (n % 19))::bigint"},
	{"oid", OID, []string{"0", "4294967295"}, "(random() * 4294967295)::bigint"},
	{"positive", Int4, []string{"1"}, "n"},
	{"float4", Float4, []string{"0", "-0", "NaN", "Infinity", "-Infinity", "3.4028235e+38", "1e-45"}, "(random() - 0.5) * 10 ^ ((random() - 0.5) * 76)"},
	{"float8", Float8, []string{"0", "-0", "NaN", "Infinity", "-Infinity", "1.7976931348623157e+308", "5e-324"}, "(random() - 0.5) * 10 ^ ((random() - 0.5) * 600)"},
	{"numeric", Numeric, []string{"0", "0.000", "-0.1", "1", "10000", "9999", "100000000.00000001", "0.0001", "0.00010000", "-12345678.9", "NaN", "Infinity", "-Infinity",
		"1" + strings.Repeat("0", 131071), strings.Repeat("7", 131072) + "." + strings.Repeat("3", 16383), "0." + strings.Repeat("0", 16382) + "1"},
		"round((random() - 0.5)::numeric * 10::numeric ^ (random() * 60 - 20)::int, (random() * 30)::int)"},
	{"numeric(12,4)", Numeric, []string{"12345678.0001", "-0.0010"}, "(random() - 0.5) * 100000000"},
	{"uuid", UUID, []string{"00000000-0000-0000-0000-000000000000", "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF"}, "md5(n::text)::uuid"},
	{"bytea", Bytea, []string{"", `\x00ff5c`}, "decode(left(md5(n::text), n % 16 * 2), 'hex')"},
	{"date", Date, []string{"infinity", "-infinity", "2000-01-01", "1999-12-31", "2000-02-29", "1900-02-28", "4714-11-24 BC", "0001-01-01", "0001-12-31 BC", "0005-02-29 BC", "5874897-12-31"},
		"date '2000-01-01' + ((random() - 0.4) * 10 ^ (1 + n % 6))::int"},
	{"time", Time, []string{"00:00:00", "24:00:00", "23:59:59.999999", "12:00:00.1"}, "time '00:00' + random() * interval '1 day'"},
	{"time(2)", Time, []string{"12:00:00.12"}, "time '00:00' + random() * interval '1 day'"},
	{"timestamp", Timestamp, []string{"infinity", "-infinity", "2000-01-01 00:00:00", "1999-12-31 23:59:59.999999", "4714-11-24 00:00:00 BC", "294276-12-31 23:59:59.999999", "0001-12-31 23:59:59.5 BC"},
		"timestamp '2000-01-01' + (random() - 0.02) * interval '290000 years'"},
	{"timestamp(1)", Timestamp, []string{"2026-05-01 12:00:00.1"}, "timestamp '2026-01-01' + random() * interval '1 year'"},
	{"timestamptz", Zoned, []string{"infinity", "-infinity", "2000-01-01 00:00:00+00", "1850-01-01 00:00:00+00", "4714-11-24 00:00:00+00 BC", "294276-12-31 23:59:59.999999+00", "0001-12-31 23:59:59.5+00 BC"},
		"timestamptz '2000-01-01' + (random() - 0.02) * interval '290000 years'"},
}

// What PostgreSQL writes as text arrives as the same value, to the bit, in whatever pieces it is read.
func TestValuesArriveAsTheyWere(t *testing.T) {
	server := postgres.Start(t, postgres.Options{})
	server.CreateDatabase(t, "given")
	conn, err := pgconn.Connect(t.Context(), server.DSN("given"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	must := func(sql string) string {
		results, err := conn.Exec(t.Context(), sql).ReadAll()
		require.NoError(t, err, sql)
		if last := results[len(results)-1]; len(last.Rows) > 0 {
			return string(last.Rows[0][0])
		}
		return ""
	}
	must(`SET extra_float_digits = 1; CREATE TYPE mood AS ENUM ('fine', E'it''s\t so'); CREATE DOMAIN positive AS int CHECK (VALUE > 0)`)
	seed := rand.Float64()
	t.Logf("seed %v", seed)
	must(fmt.Sprintf("SELECT setseed(%v)", seed))
	for _, typ := range types {
		must("DROP TABLE IF EXISTS a, b; CREATE TABLE a (n int, v " + typ.name + ", w int); CREATE TABLE b (LIKE a)")
		for i, v := range typ.values {
			require.NoError(t, conn.ExecParams(t.Context(), "INSERT INTO a VALUES ($1, $2, NULL)", [][]byte{fmt.Append(nil, -i), []byte(v)}, nil, nil, nil).Read().Err, "%s: %s", typ.name, v)
		}
		must("INSERT INTO a SELECT n, " + typ.random + ", 7 FROM generate_series(1, 2000) n; INSERT INTO a VALUES (2001, NULL, 0)")
		zones := []string{"UTC"}
		if typ.kind == Zoned {
			zones = append(zones, "America/New_York", "Asia/Kolkata", "Europe/Amsterdam")
		}
		for _, zone := range zones {
			must("TRUNCATE b; SET TimeZone = '" + zone + "'")
			var text bytes.Buffer
			_, err = conn.CopyTo(t.Context(), &text, "COPY a TO STDOUT")
			require.NoError(t, err)
			rows := CopyText{Kinds: []Kind{Int4, typ.kind, Int4}}
			next := func(dst []byte) ([]byte, error) {
				line, err := text.ReadBytes('\n')
				if err != nil {
					return dst, err
				}
				row, ok := rows.Append(dst, line[:len(line)-1])
				if !ok {
					return dst, fmt.Errorf("%s: %.50q is not known", typ.name, line)
				}
				return row, nil
			}
			_, err = conn.CopyFrom(t.Context(), iotest.HalfReader(NewCopyReader(next)), "COPY b FROM STDIN"+CopyOptions)
			require.NoError(t, err, typ.name)
			require.Equal(t, "", must("SELECT coalesce(string_agg(n || ': ' || coalesce(a.v::text, '-') || ' is ' || coalesce(b.v::text, '-'), ', '), '') FROM a FULL JOIN b USING (n) WHERE NOT ROW(a.v, a.w)::record *= ROW(b.v, b.w)::record OR (a IS NULL) <> (b IS NULL)"), typ.name)
			require.Equal(t, fmt.Sprint(len(typ.values)+2001), must("SELECT count(*) FROM b"))
		}
		// The same as an array.
		if typ.kind != Raw || typ.name == "text" {
			oid := atoi(must("SET TimeZone = 'UTC'; SELECT atttypid FROM pg_attribute WHERE attrelid = 'a'::regclass AND attname = 'v'"))
			array := AppendArray(nil, len(typ.values)+1, uint32(oid))
			for i := range typ.values {
				var ok bool
				array, ok = typ.kind.AppendSized(array, []byte(must(fmt.Sprintf("SELECT format('%%s', v) FROM a WHERE n = %d", -i))))
				require.True(t, ok, typ.name)
			}
			array = AppendNull(array)
			base, _, _ := strings.Cut(typ.name, "(")
			r := conn.ExecParams(t.Context(), "SELECT count(*) FROM unnest($1::"+base+"[]) WITH ORDINALITY x(v, n) LEFT JOIN a ON a.n = 1 - x.n WHERE NOT ROW(a.v)::record *= ROW(x.v)::record AND x.v IS NOT NULL OR x.v IS NULL",
				[][]byte{array}, nil, []int16{1}, nil).Read()
			require.NoError(t, r.Err, typ.name)
			require.Equal(t, "1", string(r.Rows[0][0]), typ.name)
		}
	}
}

func atoi(s string) (n int) {
	_, _ = fmt.Sscan(s, &n) // 0 fails the test where it is used
	return n
}

// Nothing is guessed: what is in another form than the one that PostgreSQL writes is left to the server.
func TestOtherTextIsNotKnown(t *testing.T) {
	for kind, texts := range map[Kind][]string{
		None:    {"", "x"},
		Bool:    {"", "true", "T", "1"},
		Int2:    {"", "-", "+1", " 1", "1 ", "32768", "-32769", "1.0", "0x1"},
		Int4:    {"2147483648", "-2147483649", "99999999999999999999"},
		Int8:    {"9223372036854775808", "-9223372036854775809", "18446744073709551616", "36893488147419103232"},
		OID:     {"-1", "4294967296", "010"},
		Float4:  {"", "inf", "nan", "1e39", "0x1p-2", "1_0", "1e", ".", "-", "1e-46", "-1.5e-60"},
		Float8:  {"1e309", " 1", "infinity", "0." + strings.Repeat("0", 400) + "1"},
		Numeric: {"", "-", ".", "1.", ".5", "1e5", "1.2.3", "+1", "$1", "nan", "0." + strings.Repeat("5", 1<<14)},
		UUID:    {"", "00000000000000000000000000000000", "0000000g-0000-0000-0000-000000000000", "00000000-0000-0000-0000-00000000000A", "{0000000-0000-0000-0000-000000000000"},
		Bytea:   {"", "x", `\000`, `\x0`, `\x0g`},
		Date: {"", "01-02-2026", "01/02/2026", "02.01.2026", "2026-13-01", "2026-02-29", "2026-04-31", "0000-01-01", "2026-1-01", "2026-01-01 00:00:00", "2026-01-01 AD",
			"4714-11-23 BC", "9999999-01-01 BC", "5874898-01-01", "5881610-07-11"},
		Time: {"", "12:00", "12:00:60", "24:00:01", "12:00:00+00", "12:00:00.", "12:00:00.1234567"},
		Timestamp: {"", "2026-01-01", "2026-01-01T00:00:00", "2026-01-01 24:00:00", "Thu Jan 01 00:00:00 2026", "2026-01-01 00:00:00+00", "01/02/2026 00:00:00",
			"4714-11-23 23:59:59 BC", "294277-01-01 00:00:00", "590000-01-01 00:00:00", "600000-01-01 00:00:00"},
		Zoned: {"2026-01-01 00:00:00", "2026-01-01 00:00:00 UTC", "2026-01-01 00:00:00+0", "2026-01-01 00:00:00+00:", "2026-01-01 00:00:00Z", "2026-01-01 00:00:00+16", "2026-01-01 00:00:00-59:59:59"},
	} {
		for _, text := range texts {
			dst, ok := kind.Append([]byte("kept"), []byte(text))
			require.False(t, ok, "%d %q", kind, text)
			require.Equal(t, "kept", string(dst), "%d %q", kind, text)
		}
	}
	for _, line := range []string{"1", "1\t2\t3", "1\t\\q", "1\t2\\", "x\t1", ""} {
		dst, ok := (&CopyText{Kinds: []Kind{Int4, Raw}}).Append([]byte("kept"), []byte(line))
		require.False(t, ok, line)
		require.Equal(t, "kept", string(dst), line)
	}
	require.False(t, All(nil))
	require.False(t, All([]Kind{Raw, KindOf(0, false)}))
	require.True(t, All([]Kind{Raw, KindOf(0, true)}))
}

// Why there are no more rows comes through, and a COPY that got an error must not look complete.
func TestReaderEndsAsItsRowsDo(t *testing.T) {
	broken, n := errors.New("broken"), 0
	got, err := io.ReadAll(NewCopyReader(func(dst []byte) ([]byte, error) {
		if n++; n > 1 {
			return dst, broken
		}
		return AppendCount(dst, 0), nil
	}))
	require.ErrorIs(t, err, broken)
	require.Equal(t, copyHeader+"\x00\x00", string(got))
}

func BenchmarkCopyText(b *testing.B) {
	line := []byte("1234567\tc4ca4238-a0b9-2382-0dcc-509a6f75849b\t24\tOrderShipped\t" +
		`{"note": "leave at the door", "items": [{"sku": "SKU-31215", "price": 310.68, "quantity": 5}, {"sku": "SKU-88120", "price": 220.11, "quantity": 1}], "currency": "EUR", "customer": {"id": 301412, "email": "customer-301412@example.com", "country": "FR"}, "order_id": 40301412, "shipping": {"method": "standard", "postcode": "51231"}}` +
		"\t2026-01-01 02:23:44.017617+00")
	rows := CopyText{Kinds: []Kind{Int8, UUID, Int4, Raw, JSONB, Zoned}}
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	var dst []byte
	for b.Loop() {
		var ok bool
		if dst, ok = rows.Append(dst[:0], line); !ok {
			b.Fatal("not known")
		}
	}
}
