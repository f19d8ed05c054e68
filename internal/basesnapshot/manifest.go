package basesnapshot

import (
	"fmt"

	"tidemark/catalog"
	"tidemark/segment"
)

// Manifest describes one base snapshot: docs/format/snapshot.md. It holds everything but the rows.
type Manifest struct {
	Archive       string            `json:"archive"` // archive id (UUID)
	ID            string            `json:"id"`      // 16 hexadecimal digits
	History       uint32            `json:"history"`
	LSN           segment.LSN       `json:"lsn"`            // the consistent point: holds the commits with commit LSN < LSN
	Time          segment.Timestamp `json:"time"`           // the source's clock when the point was taken
	ServerVersion int               `json:"server_version"` // server_version_num, such as 150018
	DumpVersion   string            `json:"dump_version"`   // of the pg_dump that gave Schema

	Database     Database     `json:"database"`
	Roles        []Role       `json:"roles,omitempty"`
	Tablespaces  []string     `json:"tablespaces,omitempty"`
	Schema       []SchemaItem `json:"schema"`
	Tables       []Table      `json:"tables"`
	Sequences    []Sequence   `json:"sequences,omitempty"`
	SequencesLSN segment.LSN  `json:"sequences_lsn"` // Sequences were read at or after this position
	Matviews     []Matview    `json:"matviews,omitempty"`
	Omitted      []Omission   `json:"omitted,omitempty"`
}

// Name is a schema-qualified name, unquoted.
type Name struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// String returns namespace.name, unquoted: for messages, not for SQL.
func (n Name) String() string { return segment.QualifiedName(n.Namespace, n.Name) }

// Database holds the settings of the source database itself.
type Database struct {
	Name             string    `json:"name"`
	Owner            string    `json:"owner"`
	Encoding         string    `json:"encoding"`
	Collate          string    `json:"collate"`
	CType            string    `json:"ctype"`
	LocaleProvider   string    `json:"locale_provider"`  // c (libc), i (ICU) or b (builtin)
	Locale           string    `json:"locale,omitempty"` // of ICU or builtin
	ICURules         string    `json:"icu_rules,omitempty"`
	CollationVersion string    `json:"collation_version,omitempty"`
	Tablespace       string    `json:"tablespace"`
	ConnectionLimit  int       `json:"connection_limit"` // -1: none
	Comment          string    `json:"comment,omitempty"`
	ACL              []string  `json:"acl,omitempty"` // aclitems as text; nil: the default
	Settings         []Setting `json:"settings,omitempty"`
}

// Setting is an ALTER DATABASE SET or ALTER ROLE SET.
type Setting struct {
	Role     string `json:"role,omitempty"` // "" for all roles (in Database), or in a Role
	Name     string `json:"name"`
	Value    string `json:"value"`
	Redacted bool   `json:"redacted,omitempty"`
}

// Role is a role that the database's objects need. Passwords are never read.
type Role struct {
	Name            string       `json:"name"`
	Superuser       bool         `json:"superuser,omitempty"`
	Inherit         bool         `json:"inherit,omitempty"`
	CreateRole      bool         `json:"create_role,omitempty"`
	CreateDB        bool         `json:"create_db,omitempty"`
	Login           bool         `json:"login,omitempty"`
	Replication     bool         `json:"replication,omitempty"`
	BypassRLS       bool         `json:"bypass_rls,omitempty"`
	ConnectionLimit int          `json:"connection_limit"`      // -1: none
	ValidUntil      string       `json:"valid_until,omitempty"` // as PostgreSQL prints it, UTC
	Settings        []Setting    `json:"settings,omitempty"`
	MemberOf        []Membership `json:"member_of,omitempty"`
}

// Membership makes a role a member of another.
type Membership struct {
	Role    string `json:"role"`
	Admin   bool   `json:"admin,omitempty"`
	Inherit *bool  `json:"inherit,omitempty"` // PostgreSQL 16 and later; nil before
	Set     *bool  `json:"set,omitempty"`     // PostgreSQL 16 and later; nil before
}

// SchemaItem is one entry of pg_dump's table of contents. Slices of it are in pg_dump's order.
type SchemaItem struct {
	ID         int    `json:"id"`                // pg_dump's dump id
	Kind       string `json:"kind"`              // pg_dump's description, such as "TABLE", "FK CONSTRAINT", "ACL"
	Section    string `json:"section,omitempty"` // none, pre-data, data or post-data
	Namespace  string `json:"namespace,omitempty"`
	Name       string `json:"name"` // pg_dump's tag; of a constraint or trigger "table name", of a function with its arguments
	Owner      string `json:"owner,omitempty"`
	SQL        string `json:"sql,omitempty"`       // one or several statements, each ended by a semicolon; may be only comments
	DropSQL    string `json:"drop_sql,omitempty"`  //
	OwnerSQL   string `json:"owner_sql,omitempty"` // ALTER … OWNER TO …; "" where there is no owner of its own
	Tablespace string `json:"tablespace,omitempty"`
	TableAM    string `json:"table_am,omitempty"`
	RelKind    string `json:"relkind,omitempty"` // from pg_dump 17 on
	Deps       []int  `json:"deps,omitempty"`    // IDs that come first; some name entries that are not listed
	ClassOID   uint32 `json:"class_oid,omitempty"`
	OID        uint32 `json:"oid,omitempty"`         // of the object on the source, in the catalog ClassOID
	OfDatabase bool   `json:"of_database,omitempty"` // concerns the database itself, not what is in it
	Redacted   bool   `json:"redacted,omitempty"`    // a password was taken out of SQL
	// Inherited is set where SQL defines columns that the table only inherits: InheritedSQL puts that right.
	Inherited *Inherited `json:"inherited,omitempty"`
	// InvalidIndex is the name of the partitioned table's index that SQL makes, where it was not valid; "" otherwise.
	InvalidIndex string `json:"invalid_index,omitempty"`
	// Extension is that of a member, or of what belongs to one, which the extension's script doesn't make: it was added. Where a
	// script makes it all the same, nothing is to be done.
	Extension  string `json:"extension,omitempty"`
	MemberSQL  string `json:"member_sql,omitempty"`  // ALTER EXTENSION … ADD …; follows SQL
	InitialSQL string `json:"initial_sql,omitempty"` // of an ACL item: the privileges that a member had when it was added, and its being added again with them; precedes SQL
}

// Pass is the order in which pg_restore runs kinds of items.
type Pass int

// The passes: each over all items in order.
const (
	PassMain    Pass = iota // everything else
	PassACL                 // privileges
	PassPostACL             // event triggers and their comments
)

// Table is a table whose rows the snapshot holds: an ordinary table or a leaf partition.
type Table struct {
	OID       uint32   `json:"oid"` // on the source
	Namespace string   `json:"namespace"`
	Name      string   `json:"name"`
	Identity  string   `json:"identity"`      // pg_class.relreplident: d, n, f or i
	Key       []string `json:"key,omitempty"` // columns of the replica identity (all columns for f)
	Columns   []Column `json:"columns,omitempty"`
	Partition bool     `json:"partition,omitempty"`
	Parents   []Name   `json:"parents,omitempty"`   // inheritance parents, or the partitioned table
	Root      *Name    `json:"root,omitempty"`      // topmost partitioned table
	Extension string   `json:"extension,omitempty"` // made by this extension's script, which may have put rows in too
	Rows      int64    `json:"rows"`
	RawBytes  int64    `json:"raw_bytes"` // of COPY text
	Chunks    []Chunk  `json:"chunks,omitempty"`
}

// String returns namespace.name, unquoted.
func (t *Table) String() string { return segment.QualifiedName(t.Namespace, t.Name) }

// CopyColumns returns the names of the columns that the chunks' rows have, in order: all but the
// generated ones.
func (t *Table) CopyColumns() []string {
	names := make([]string, 0, len(t.Columns))
	for _, c := range t.Columns {
		if c.Generated == "" {
			names = append(names, c.Name)
		}
	}
	return names
}

// StoredBytes sums the sizes of the table's objects.
func (t *Table) StoredBytes() int64 {
	var n int64
	for _, c := range t.Chunks {
		n += c.StoredBytes()
	}
	return n
}

// Column is a column of a table, as it stood at the consistent point.
type Column struct {
	Name      string `json:"name"`
	Type      string `json:"type"` // as format_type prints it, schema-qualified outside pg_catalog
	TypeOID   uint32 `json:"type_oid"`
	NotNull   bool   `json:"not_null,omitempty"`
	Generated string `json:"generated,omitempty"` // s (stored) or v (virtual); "" if not generated
	Identity  string `json:"identity,omitempty"`  // a (always) or d (by default); "" if not an identity
}

// Chunk is a whole number of rows of a table. Chunks are independent of each other.
type Chunk struct {
	Objects  []catalog.Object `json:"objects"` // usually one; a very large row spans several, in order
	Rows     int64            `json:"rows"`
	RawBytes int64            `json:"raw_bytes"` // of COPY text
}

// StoredBytes sums the sizes of the chunk's objects.
func (c Chunk) StoredBytes() int64 {
	var n int64
	for _, o := range c.Objects {
		n += o.Size
	}
	return n
}

// Sequence is a sequence's state, read after the last row was, and the columns that draw on it.
type Sequence struct {
	segment.Sequence
	Type    string      `json:"type"`               // smallint, integer or bigint
	Min     *int64      `json:"min,omitempty"`      // MINVALUE; nil in manifests of the first version
	Max     *int64      `json:"max,omitempty"`      // MAXVALUE
	OwnedBy *ColumnRef  `json:"owned_by,omitempty"` // OWNED BY, or the identity column
	UsedBy  []ColumnRef `json:"used_by,omitempty"`  // columns whose default uses it
}

// ColumnRef names a column.
type ColumnRef struct {
	Namespace string `json:"namespace"`
	Table     string `json:"table"`
	Column    string `json:"column"`
	Identity  bool   `json:"identity,omitempty"`
}

// Matview is a materialized view. Its rows are not in the snapshot: where Populated, it is refreshed.
type Matview struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Populated bool   `json:"populated,omitempty"`
}

// Omission names something that the database holds and the archive does not.
type Omission struct {
	Kind      string `json:"kind"` // unlogged table, foreign table, unpublished table, large objects
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
	Count     int64  `json:"count,omitempty"`
}

// Prefix returns the key prefix of a snapshot's objects, ending with a slash.
func Prefix(history uint32, lsn segment.LSN, id string) string {
	return fmt.Sprintf("snapshots/%d-%s-%s/", history, lsn.Hex(), id)
}
