package workload

import "strings"

// texts are strings that quoting, COPY, encodings or JSON can get wrong.
var texts = []string{
	"", " ", "plain", "NULL", "null", `\N`, `\\N`, `\.`, "tab\there", "line\nbreak", "carriage\rreturn", "crlf\r\n",
	`quote ' double " back \ slash`, `{curly,"brace"}`, "(paren,)", "zażółć gęślą jaźń", "列車 🚃", "e\u0301 combining",
	"\x01\x02\x1f\x7f", "$1 %s ${x} ; --", "trailing space ", strings.Repeat("long ", 700), "\ufeffbom",
}

// text draws a string.
func (c *client) text() string { return texts[c.rng.IntN(len(texts))] }

// kind is a column of shop.kinds and values for it, as input strings of its type.
type kind struct {
	column string
	values []string
}

var kinds = []kind{
	{"k_smallint", []string{"0", "-32768", "32767"}},
	{"k_int", []string{"0", "-2147483648", "2147483647"}},
	{"k_real", []string{"0", "-0", "NaN", "Infinity", "-Infinity", "1e-40", "3.4028235e38", "0.1"}},
	{"k_double", []string{"0", "-0", "NaN", "Infinity", "-Infinity", "5e-324", "1.7976931348623157e308", "0.1", "123456789.123456789"}},
	{"k_numeric", []string{"0", "0.000", "NaN", "Infinity", "-Infinity", "-1.50", "1" + strings.Repeat("0", 300) + ".0001", "1e-50"}},
	{"k_money", []string{"0", "-12.34", "92233720368547758.07"}},
	{"k_bool", []string{"t", "f"}},
	{"k_char", []string{"", "a", "a b", "0123456789"}},
	{"k_varchar", []string{"", " ", "'", `\`, "äöü"}},
	{"k_bytea", []string{``, `\x`, `\x00`, `\x5c5c78ff00`, `\xdeadbeef`}},
	{"k_date", []string{"infinity", "-infinity", "4713-01-01 BC", "0001-12-31", "2024-02-29", "5874897-12-31"}},
	{"k_time", []string{"00:00", "24:00", "23:59:59.999999"}},
	{"k_timetz", []string{"00:00+15:59", "24:00-12", "12:34:56.789+05:30"}},
	{"k_timestamp", []string{"infinity", "-infinity", "4713-01-01 00:00 BC", "2024-02-29 12:00:00.000001", "294276-12-31 23:59:59.999999"}},
	{"k_timestamptz", []string{"infinity", "-infinity", "2024-03-31 02:30:00+01", "1883-11-18 12:03:57-07:52:58", "2024-01-01 00:00:00.5Z"}},
	{"k_interval", []string{"0", "1 year -2 mons 3 days -04:05:06.7", "-178000000 years", "1 microsecond", "100000:00:00"}},
	{"k_uuid", []string{"00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"}},
	{"k_inet", []string{"10.0.0.1", "10.0.0.1/8", "::1", "2001:db8::ff00:42:8329/64"}},
	{"k_cidr", []string{"10.0.0.0/8", "::/0"}},
	{"k_mac", []string{"08:00:2b:01:02:03"}},
	{"k_bit", []string{"00000000", "10101010"}},
	{"k_varbit", []string{"", "1", "101"}},
	{"k_json", []string{`{"a" : 1,  "a": 2}`, `null`, `"\u0041"`, `[1e400]`}},
	{"k_jsonb", []string{`{"a": {"b": [1, 2.50, null, "x\ny"]}}`, `null`, `"🚃"`, `[]`, `1e300`}},
	{"k_ints", []string{"{}", "{1,NULL,-3}", "[2:4]={1,2,3}", "{{1,2},{3,4}}"}},
	{"k_texts", []string{"{}", `{"",NULL,"NULL","a b","c\"d","e\\f","{","}"," "}`, `{{a,b},{"c,d",e}}`}},
	{"k_range", []string{"empty", "[1,5)", "(,)", "[7,)"}},
	{"k_multi", []string{"{}", "{[1,2),(3.5,)}"}},
	{"k_point", []string{"(0,-0)", "(1.5,1e300)", "(NaN,Infinity)"}},
	{"k_path", []string{"[(0,0),(1,1)]", "((0,0),(1,1),(2,0.1))"}},
	{"k_vector", []string{"", "'it''s':1A 'two':2,3B"}},
	{"k_query", []string{"'a' & !'b' <-> 'c':*A"}},
	{"k_status", []string{"open", "on its way", `it's "done"`}},
	{"k_statuses", []string{"{}", `{open,NULL,"it's \"done\""}`}},
	{"k_address", []string{`(,,)`, `("a ""b"", c",12345,2020-02-02)`, `("",,)`}},
	{"k_percent", []string{"0", "100", "33.33"}},
	{"k_lsn", []string{"0/0", "FFFFFFFF/FFFFFFFF", "16/B374D848"}},
	{"k_qchar", []string{"", "x", `"`}},
	{"k_name", []string{"", "a name", strings.Repeat("n", 63)}},
	{"k_regtype", []string{"integer", "shop.status", "character varying[]", "-"}},
}

// literal draws a value as an SQL literal; one in six is NULL.
func (c *client) literal(k kind) string {
	if c.rng.IntN(6) == 0 {
		return "NULL"
	}
	return "'" + strings.ReplaceAll(k.values[c.rng.IntN(len(k.values))], "'", "''") + "'"
}
