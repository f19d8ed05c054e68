package integration

import (
	"fmt"
	"strings"
)

// valuesOf is a type and literals of it, at its edges where it has some.
type valuesOf struct {
	typ    string
	values []string
}

// builtinTypes are PostgreSQL's own types that a column can have.
var builtinTypes = []valuesOf{
	{"smallint", []string{"-32768", "32767", "0"}},
	{"integer", []string{"-2147483648", "2147483647", "0"}},
	{"bigint", []string{"-9223372036854775808", "9223372036854775807", "0"}},
	{"numeric", []string{"NaN", "Infinity", "-Infinity", "1.10", "1.1", "-0.000", "1e131071", "1e-16383"}},
	{"numeric(10,2)", []string{"12345678.90", "-0.01", "NaN"}},
	{"real", []string{"NaN", "Infinity", "-Infinity", "-0", "1.17549435e-38", "3.4028235e38", "0.1"}},
	{"double precision", []string{"NaN", "Infinity", "-Infinity", "-0", "4.9e-324", "1.7976931348623157e308", "0.1"}},
	{"money", []string{"-92233720368547758.08", "92233720368547758.07", "1234567.89"}},
	{`"char"`, []string{"a", "\\", ""}},
	{"char(5)", []string{"ab", "abcde", ""}},
	{"varchar(7)", []string{"ab  ", "äöü€😀", ""}},
	{"text", []string{"\t\n\r\b\f\v\\", `\N`, `\.`, "", "NULL", " \u00a0\u200b\ufeff\u2028 ", "e\u0301 \U0010ffff", `"quoted", {braces} 'single'`}},
	{"name", []string{"a name", strings.Repeat("ä", 31), ""}},
	{"bytea", []string{`\x`, `\x00ff5c5c27220a`, `\x` + strings.Repeat("00", 3000)}},
	{"bit(3)", []string{"101", "000"}},
	{"bit varying(20)", []string{"", "10101010101"}},
	{"boolean", []string{"t", "f"}},
	{"date", []string{"4713-01-01 BC", "5874897-12-31", "infinity", "-infinity", "0044-03-15 BC", "2000-02-29"}},
	{"time", []string{"00:00", "24:00", "23:59:59.999999"}},
	{"time(2) with time zone", []string{"24:00+15:59:59", "00:00-15:59:59", "12:34:56.78+00"}},
	{"timestamp", []string{"4713-01-01 00:00 BC", "294276-12-31 23:59:59.999999", "infinity", "-infinity", "0001-12-31 23:59:59.5 BC"}},
	{"timestamp(0)", []string{"2001-02-03 04:05:06"}},
	{"timestamptz", []string{"4713-01-01 00:00+00 BC", "294276-12-31 23:59:59.999999+00", "infinity", "-infinity", "1890-01-01 00:00:00+00"}},
	{"interval", []string{"178000000 years", "-178000000 years", "-1 mon +1 day -00:00:00.000001", "1 day", "24:00:00", "0"}},
	{"interval day to second(3)", []string{"3 days 04:05:06.789"}},
	{"uuid", []string{"00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"}},
	{"inet", []string{"::ffff:1.2.3.4/96", "192.168.0.1/24", "10.1.2.3"}},
	{"cidr", []string{"192.168.0.0/24", "2001:db8::/32"}},
	{"macaddr", []string{"08:00:2b:01:02:03"}},
	{"macaddr8", []string{"08:00:2b:ff:fe:01:02:03"}},
	{"point", []string{"(NaN,Infinity)", "(-0,1e-300)"}},
	{"line", []string{"{1,-1,0.1}"}},
	{"lseg", []string{"[(0,0),(1,0.1)]"}},
	{"box", []string{"(3,4),(1,2)"}},
	{"path", []string{"[(0,0),(1,1),(2,0)]", "((0,0),(1,1),(2,0))"}},
	{"polygon", []string{"((0,0),(1,1),(2,0))"}},
	{"circle", []string{"<(1,2),0.3>"}},
	{"json", []string{`{"a" : 1,   "a":2, "b": [1.0, 1e400]}`, `"\u0000 \ud83d"`, "null"}},
	{"jsonb", []string{`{"a": 1, "b": [1.00, 12345678901234567890.123456789]}`, `"\ud83d\ude00\t"`, "null", `{"":""}`}},
	{"jsonpath", []string{`$.a[*] ? (@ > 1 && @.b like_regex "^x" flag "i")`, "strict $"}},
	{"xml", []string{`<?xml version="1.0" encoding="LATIN1"?><a>ä &amp; <!-- c --></a>`, "no <b>document</b>", ""}},
	{"tsvector", []string{`'a':1A,2B 'b c':3 'd''e'`, ""}},
	{"tsquery", []string{`'a':AB & !('b c' | 'd':*) <-> 'e'`, ""}},
	{"int4range", []string{"empty", "[1,5)", "(,)", "(,3)"}},
	{"int8range", []string{"empty", "[-9223372036854775808,9223372036854775807)"}},
	{"numrange", []string{"(1.10,NaN]", "[1.1,1.10]", "(,)"}},
	{"tsrange", []string{"[-infinity,infinity]", `["0044-03-15 00:00:00 BC","2000-01-01 00:00:00")`}},
	{"tstzrange", []string{"[2000-01-01 00:00+00,)", "empty"}},
	{"daterange", []string{"[2000-01-01,2000-12-31)", "(,infinity)"}},
	{"int4multirange", []string{"{}", "{[1,3),[5,8),[10,)}"}},
	{"int8multirange", []string{"{(,)}"}},
	{"nummultirange", []string{"{[1.0,1.50),(2,NaN]}"}},
	{"tsmultirange", []string{`{["2000-01-01 00:00:00","2000-01-02 00:00:00")}`}},
	{"tstzmultirange", []string{`{[2000-01-01 00:00+00,infinity]}`}},
	{"datemultirange", []string{"{[2000-01-01,2000-02-01),(2001-01-01,)}"}},
	{"oid", []string{"0", "4294967295"}},
	{"regclass", []string{"pg_class", "-", "information_schema.tables"}},
	{"regproc", []string{"now", "-"}},
	{"regprocedure", []string{"abs(integer)"}},
	{"regoper", []string{"pg_catalog.||/", "0"}},
	{"regoperator", []string{"+(integer,integer)", "-(NONE,integer)"}},
	{"regtype", []string{"integer", "double precision", "_int4", "information_schema.sql_identifier"}},
	{"regrole", []string{"postgres", "pg_read_all_data"}},
	{"regnamespace", []string{"pg_catalog", "public"}},
	{"regcollation", []string{`"C"`, "pg_catalog.\"default\""}},
	{"regconfig", []string{"english", "simple"}},
	{"regdictionary", []string{"english_stem"}},
	{"xid", []string{"4294967295"}},
	{"xid8", []string{"18446744073709551615"}},
	{"cid", []string{"7"}},
	{"tid", []string{"(4294967295,65535)"}},
	{"pg_lsn", []string{"FFFFFFFF/FFFFFFFF", "0/0"}},
	{"txid_snapshot", []string{"10:20:10,14,15"}},
	{"pg_snapshot", []string{"10:20:10,14,15"}},
	{"int2vector", []string{"1 -2 3", ""}},
	{"oidvector", []string{"1 2 4294967295", ""}},
	{"refcursor", []string{"a cursor"}},
	{"aclitem", []string{"postgres=r*w/postgres", "=r/postgres"}},
	{"information_schema.sql_identifier", []string{"some name"}},
	{"information_schema.cardinal_number", []string{"0", "7"}},
	{"information_schema.yes_or_no", []string{"YES"}},
	{"information_schema.time_stamp", []string{"2001-02-03 04:05:06.78+00"}},
}

// ownTypesSQL makes types of every kind that users and extensions make, in a schema whose name needs quotes.
const ownTypesSQL = `
CREATE SCHEMA "Ty pes";
CREATE EXTENSION hstore; CREATE EXTENSION citext WITH SCHEMA "Ty pes"; CREATE EXTENSION ltree; CREATE EXTENSION cube;
CREATE EXTENSION isn; CREATE EXTENSION seg;
CREATE TYPE "Ty pes".mood AS ENUM ('sad', 'o''k', 'very, "happy"', '', ' b\s ');
ALTER TYPE "Ty pes".mood ADD VALUE 'between' BEFORE 'o''k';
CREATE FUNCTION "Ty pes".even(int) RETURNS bool IMMUTABLE LANGUAGE sql AS 'SELECT $1 % 2 = 0';
CREATE DOMAIN "Ty pes".even AS int CHECK ("Ty pes".even(VALUE)) DEFAULT 2;
CREATE DOMAIN "Ty pes".evens AS "Ty pes".even[] CHECK (cardinality(VALUE) < 9);
CREATE DOMAIN small_even AS "Ty pes".even NOT NULL CHECK (VALUE < 100);
CREATE TYPE "Ty pes"."Pair" AS ("left" "Ty pes".even, gone int, "ri ght" text, mood "Ty pes".mood);
ALTER TYPE "Ty pes"."Pair" DROP ATTRIBUTE gone;
ALTER TYPE "Ty pes"."Pair" ADD ATTRIBUTE list "Ty pes".mood[];
CREATE TYPE nested AS (pair "Ty pes"."Pair", pairs "Ty pes"."Pair"[], at timestamptz);
CREATE DOMAIN pair_of_two AS "Ty pes"."Pair" CHECK ((VALUE)."left" = 2);
CREATE TYPE textrange AS RANGE (subtype = text, collation = "C", multirange_type_name = "Ty pes"."text Ranges");
CREATE TYPE floatrange AS RANGE (subtype = float8, subtype_diff = float8mi);
CREATE TABLE "Ty pes".row_type (a int, dropped int, b text); ALTER TABLE "Ty pes".row_type DROP COLUMN dropped;
-- Array types whose names are not what another order of making them gives.
CREATE TYPE _clash AS ENUM ('x'); CREATE TYPE clash AS ENUM ('y', 'z'); DROP TYPE _clash;
CREATE TYPE before_rename AS (a int); CREATE TABLE _renamed (a int); ALTER TYPE before_rename RENAME TO renamed;
`

// ownTypes are the types that ownTypesSQL makes.
var ownTypes = []valuesOf{
	{"hstore", []string{`"a"=>"1", "b c"=>NULL, "\"q\\"=>"x,y"`, ""}},
	{`"Ty pes".citext`, []string{"MiXeD", "mixed", ""}},
	{"ltree", []string{"Top.Science.Astronomy", ""}},
	{"lquery", []string{"*.Science.*{1,2}", "Top.!a|b@*"}},
	{"ltxtquery", []string{"Science & !Astro*@"}},
	{"cube", []string{"(1, 2, 3),(4, 5, 6.5)", "(0)"}},
	{"isbn13", []string{"978-0-393-04002-9"}},
	{"seg", []string{"1.50 .. 2.0", "~3.0", "<4"}},
	{`"Ty pes".mood`, []string{"sad", "between", "o'k", `very, "happy"`, "", ` b\s `}},
	{`"Ty pes".even`, []string{"2", "-4"}},
	{`"Ty pes".evens`, []string{"{2,4,NULL}", "{}"}},
	{`"Ty pes"."Pair"`, []string{`(2,"a ""b"" \\ (c),",sad,"{""very, \\""happy\\"""",sad}")`, "(,,,)", `(4,"","",{})`}},
	{"nested", []string{`("(2,x,sad,)","{""(2,,,)"",NULL}","0044-03-15 00:00:00+00 BC")`, "(,,)"}},
	{"pair_of_two", []string{"(2,a,,)"}},
	{"textrange", []string{`["a,b","c]d")`, "empty", `("",)`}},
	{`"Ty pes"."text Ranges"`, []string{`{["a","b"),["x\"y",]}`, "{}"}},
	{"floatrange", []string{"[-Infinity,NaN]", "[0.1,0.2)"}},
	{`"Ty pes".row_type`, []string{`(1,"x")`}},
	{"clash", []string{"y", "z"}},
	{"renamed", []string{"(7)"}},
}

func literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// everyType is a table with a column of every type, and one of each type's arrays.
type everyType struct {
	types []valuesOf
}

// columns gives "c0 smallint, a0 smallint[], …".
func (e everyType) columns() string {
	var list []string
	for i, t := range e.types {
		list = append(list, fmt.Sprintf("c%d %s, a%d %s[]", i, t.typ, i, t.typ))
	}
	return strings.Join(list, ", ")
}

func (e everyType) names() string {
	var list []string
	for i := range e.types {
		list = append(list, fmt.Sprintf("c%d, a%d", i, i))
	}
	return strings.Join(list, ", ")
}

// value is the n-th value of type i, array its n-th array.
func (e everyType) value(i, n int) string {
	t := e.types[i]
	return literal(t.values[n%len(t.values)]) + "::" + t.typ
}

func (e everyType) array(i, n int) string {
	t := e.types[i]
	switch n % 4 {
	case 0:
		return "'{}'::" + t.typ + "[]"
	case 1: // other bounds than 1
		return fmt.Sprintf("array_fill(%s, ARRAY[2,1], ARRAY[-3,7])", e.value(i, n))
	case 2:
		return "NULL"
	}
	var list []string
	for n := range t.values {
		list = append(list, e.value(i, n))
	}
	return "ARRAY[" + strings.Join(list, ", ") + ", NULL]::" + t.typ + "[]"
}

// row is the n-th row's values, of all columns.
func (e everyType) row(n int) string {
	var list []string
	for i := range e.types {
		list = append(list, e.value(i, n), e.array(i, n))
	}
	return strings.Join(list, ", ")
}

// inserts fills a table whose first column, id, counts from a number.
func (e everyType) inserts(table string, from, to int) string {
	var sql strings.Builder
	for n := from; n < to; n++ {
		fmt.Fprintf(&sql, "INSERT INTO %s (id, %s) VALUES (%d, %s);\n", table, e.names(), n, e.row(n))
	}
	return sql.String()
}

// updates gives each column another value, in a row of its own where there are enough.
func (e everyType) updates(table string, rows int) string {
	var sql strings.Builder
	for i := range e.types {
		fmt.Fprintf(&sql, "UPDATE %s SET c%d = %s, a%d = %s WHERE id = %d;\n", table, i, e.value(i, i+1), i, e.array(i, i+3), i%rows)
	}
	return sql.String()
}
