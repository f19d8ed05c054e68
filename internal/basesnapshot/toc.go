package basesnapshot

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"tidemark/internal/ddl"
	"tidemark/internal/sqltext"
)

// The custom format of pg_dump: WriteHead, WriteToc in src/bin/pg_dump/pg_backup_archiver.c and
// _WriteExtraToc in pg_backup_custom.c. Version 1.14 is written by PostgreSQL 12 to 15, 1.15 by 16, 1.16 by 17 and 18.
const (
	tocMagic     = "PGDMP"
	tocCustom    = 1 // format code
	tocOldest    = 14
	tocNewest    = 16
	maxTocInt    = 8 // bytes of an integer; all known systems have 4
	maxTocOffset = 16
)

// errToc is the mark of a dump that can't be read.
var errToc = errors.New("the table of contents of pg_dump's output can't be read")

// toc is the table of contents of a dump.
type toc struct {
	Minor       int    // of the archive format's version 1.x
	Remote      string // server's version, as the dump prints it
	DumpVersion string // pg_dump's version
	Items       []SchemaItem
}

// parseTOC reads the head of a custom-format dump, as far as the table of contents goes.
func parseTOC(b []byte) (*toc, error) {
	r := &tocReader{b: b}
	t := r.head()
	count := r.int()
	// An entry has at least 18 integers and strings of at least two bytes.
	if r.err == nil && (count < 0 || count > len(r.b)/32) {
		r.fail("%d entries are impossible", count)
	}
	for i := 0; i < count && r.err == nil; i++ {
		t.Items = append(t.Items, r.entry(t.Minor))
	}
	if r.err != nil {
		return nil, r.err
	}
	return t, nil
}

// tocReader reads the dump's integers and strings; after an error all reads give zero values.
type tocReader struct {
	b       []byte
	at      int // for messages
	intSize int
	offSize int
	err     error
}

func (r *tocReader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: at byte %d: %s", errToc, r.at, fmt.Sprintf(format, args...))
	}
}

// bytes takes n bytes; nil after an error.
func (r *tocReader) bytes(n int) []byte {
	if r.err != nil {
		return nil
	}
	if n < 0 || n > len(r.b) {
		r.fail("it ends too early")
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	r.at += n
	return b
}

func (r *tocReader) byte() byte {
	if b := r.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

// int reads a sign byte and a little-endian magnitude.
func (r *tocReader) int() int {
	negative := r.byte() != 0
	var v uint64
	for i, c := range r.bytes(r.intSize) {
		v |= uint64(c) << (8 * i)
	}
	if v > math.MaxInt32 {
		r.fail("an integer is out of range")
		return 0
	}
	if negative {
		return -int(v)
	}
	return int(v)
}

// str reads a string; null (a negative length) is "" and false.
func (r *tocReader) str() (string, bool) {
	n := r.int()
	if n < 0 || r.err != nil {
		return "", false
	}
	return string(r.bytes(n)), r.err == nil
}

func (r *tocReader) text() string {
	s, _ := r.str()
	return s
}

// number reads a decimal number written as a string.
func (r *tocReader) number() uint32 {
	s := r.text()
	v, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		r.fail("%.20q is not a number", s)
	}
	return uint32(v)
}

func (r *tocReader) head() *toc {
	t := &toc{}
	if string(r.bytes(len(tocMagic))) != tocMagic {
		r.fail("it doesn't begin with %s", tocMagic)
		return t
	}
	major, minor := r.byte(), r.byte()
	r.byte() // revision
	if r.err == nil && (major != 1 || minor < tocOldest || minor > tocNewest) {
		r.fail("format version %d.%d is not known (1.%d to 1.%d are)", major, minor, tocOldest, tocNewest)
	}
	t.Minor = int(minor)
	r.intSize, r.offSize = int(r.byte()), int(r.byte())
	if r.intSize < 1 || r.intSize > maxTocInt || r.offSize < 1 || r.offSize > maxTocOffset {
		r.fail("integers of %d and offsets of %d bytes are impossible", r.intSize, r.offSize)
	}
	if r.byte() != tocCustom {
		r.fail("it is not in the custom format")
	}
	if minor >= 15 {
		r.byte() // compression algorithm
	} else {
		r.int() // compression level
	}
	for range 7 {
		r.int() // second, minute, hour, day, month, year, daylight saving
	}
	r.text() // database
	t.Remote, t.DumpVersion = r.text(), r.text()
	return t
}

var tocSections = [...]string{1: "none", 2: "pre-data", 3: "data", 4: "post-data"}

func (r *tocReader) entry(minor int) SchemaItem {
	var it SchemaItem
	it.ID = r.int()
	r.int() // whether it had data
	it.ClassOID = r.number()
	it.OID = r.number()
	it.Name = r.text()
	it.Kind = r.text()
	section := r.int()
	if r.err == nil && (section < 1 || section >= len(tocSections)) {
		r.fail("section %d is not known", section)
		return it
	}
	if r.err == nil {
		it.Section = tocSections[section]
	}
	it.SQL = r.text()
	it.DropSQL = r.text()
	r.text() // COPY statement
	it.Namespace = r.text()
	it.Tablespace = r.text()
	it.TableAM = r.text()
	if minor >= 16 {
		if k := r.int(); k > 0 && k < 128 {
			it.RelKind = string(rune(k))
		}
	}
	it.Owner = r.text()
	if r.text() == "true" {
		r.fail("table %q is WITH OIDS", it.Name)
	}
	for {
		s, ok := r.str()
		if !ok {
			break
		}
		id, err := strconv.ParseInt(s, 10, 32)
		if err != nil {
			r.fail("%.20q is not a dump id", s)
			break
		}
		it.Deps = append(it.Deps, int(id))
	}
	r.byte() // kind of offset
	r.bytes(r.offSize)
	return it
}

// schemaOf turns the table of contents into the manifest's items: settings are left out, owners are
// spelled out, passwords taken out.
func schemaOf(t *toc) []SchemaItem {
	var items []SchemaItem
	for _, it := range t.Items {
		switch it.Kind {
		case "ENCODING", "STDSTRINGS", "SEARCHPATH":
			continue // SET statements; docs/format/snapshot.md names the settings that items run under
		}
		if isOwn(it) {
			continue
		}
		it.OfDatabase = ofDatabase(it)
		it.OwnerSQL = ownerSQL(it)
		if it.RelKind == "p" && it.TableAM != "" {
			// A partitioned table has no storage: the access method is for its future partitions, and
			// CREATE TABLE doesn't take it from default_table_access_method before 17.
			it.SQL += "\nALTER TABLE " + sqltext.QuoteName(it.Namespace, it.Name) + " SET ACCESS METHOD " + sqltext.QuoteIdent(it.TableAM) + ";\n"
			it.TableAM = ""
		}
		redactItem(&it)
		items = append(items, it)
	}
	return items
}

// isOwn reports whether an item is part of what Tidemark itself puts into a source (the capture of schema
// changes) or a target (the progress of a feed). It is no part of the database that is archived: a restored one
// that captured changes too would write them into a stream that nobody reads.
func isOwn(it SchemaItem) bool {
	if it.Namespace == ddl.Schema {
		return true
	}
	for _, name := range append([]string{ddl.Schema}, ddl.EventTriggers...) {
		kind := "EVENT TRIGGER"
		if name == ddl.Schema {
			kind = "SCHEMA"
		}
		switch it.Kind {
		case kind:
			if it.Name == name {
				return true
			}
		case "ACL", "COMMENT", "SECURITY LABEL":
			if it.Name == kind+" "+name || it.Name == kind+" "+sqltext.QuoteIdent(name) {
				return true
			}
		}
	}
	return false
}

// ofDatabase: see _tocEntryRequired in pg_backup_archiver.c.
func ofDatabase(it SchemaItem) bool {
	switch it.Kind {
	case "DATABASE", "DATABASE PROPERTIES":
		return true
	case "ACL", "COMMENT", "SECURITY LABEL":
		return strings.HasPrefix(it.Name, "DATABASE ")
	}
	return false
}

// RestorePass returns the pass in which pg_restore runs the item: _tocEntryRestorePass in pg_backup_archiver.c.
func (it *SchemaItem) RestorePass() Pass {
	switch it.Kind {
	case "ACL", "ACL LANGUAGE", "DEFAULT ACL":
		return PassACL
	case "EVENT TRIGGER", "MATERIALIZED VIEW DATA", "STATISTICS DATA":
		return PassPostACL
	case "COMMENT", "SECURITY LABEL":
		if strings.HasPrefix(it.Name, "EVENT TRIGGER ") {
			return PassPostACL
		}
	}
	return PassMain
}

// ownerSQL spells out what pg_restore derives: _getObjectDescription and _printTocEntry in
// pg_backup_archiver.c. The DROP statement names the object, with a function's or operator's arguments.
func ownerSQL(it SchemaItem) string {
	if it.Owner == "" || it.DropSQL == "" {
		return ""
	}
	var object string
	switch it.Kind {
	case "TABLE", "VIEW", "SEQUENCE", "MATERIALIZED VIEW":
		object = "TABLE " + sqltext.QuoteName(it.Namespace, it.Name)
	case "COLLATION", "CONVERSION", "DOMAIN", "TYPE", "FOREIGN TABLE", "TEXT SEARCH DICTIONARY", "TEXT SEARCH CONFIGURATION", "STATISTICS",
		"DATABASE", "PROCEDURAL LANGUAGE", "SCHEMA", "EVENT TRIGGER", "FOREIGN DATA WRAPPER", "SERVER", "PUBLICATION", "SUBSCRIPTION":
		object = it.Kind + " " + sqltext.QuoteName(it.Namespace, it.Name)
	case "AGGREGATE", "FUNCTION", "OPERATOR", "OPERATOR CLASS", "OPERATOR FAMILY", "PROCEDURE":
		drop, ok := strings.CutPrefix(it.DropSQL, "DROP ")
		if !ok {
			return ""
		}
		object = strings.TrimRight(drop, ";\n")
	default:
		return ""
	}
	return "ALTER " + object + " OWNER TO " + sqltext.QuoteIdent(it.Owner) + ";\n"
}
