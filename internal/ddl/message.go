// Package ddl carries schema changes through the stream: event triggers at the source write each statement
// as a transactional logical message, and the replay executes it at the same place of the same transaction.
// docs/format/ddl.md describes the messages.
package ddl

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Prefix is the logical message prefix of everything that Tidemark writes into a source's stream, and
// ContentPrefix how the content of a schema change begins.
const (
	Prefix        = "tidemark"
	ContentPrefix = "ddl:"
)

// Message is one schema change.
type Message struct {
	Version int    `json:"v"`
	Tag     string `json:"tag"` // command tag, such as "ALTER TABLE"

	// SQL is the one statement that made the change, free of secrets, as the user wrote it, or one made from
	// the catalog where that is exacter (CREATE TABLE AS becomes a CREATE TABLE). Empty: it could not be
	// told apart, or can't be replayed; Inexact says why.
	SQL string `json:"sql,omitempty"`

	User     string            `json:"user"`              // current_user when it ran
	Super    bool              `json:"super,omitempty"`   // it was a superuser; false also where that is not known
	XID      uint32            `json:"xid,omitempty"`     // the transaction that made the change
	XIDs     []uint32          `json:"xids,omitempty"`    // that, and those of the subtransactions that it ran in
	Settings map[string]string `json:"set,omitempty"`     // settings that its meaning depends on, such as search_path and TimeZone
	Objects  []Object          `json:"objects,omitempty"` // made or changed, in the server's order (pg_event_trigger_ddl_commands)
	Dropped  []Object          `json:"dropped,omitempty"` // with everything that went with them (pg_event_trigger_dropped_objects)

	// RowsFirst: this statement's own rows come before this message in the same transaction (CREATE TABLE AS,
	// SELECT INTO).
	RowsFirst bool `json:"rows_first,omitempty"`

	// Inexact is not empty if replaying SQL does not give what the source has: from here on until a base
	// snapshot, the rows of Tables (segment.QualifiedName; none: anything) are not those of the source.
	Inexact string   `json:"inexact,omitempty"`
	Tables  []string `json:"tables,omitempty"`

	// Copied is what the new table has of what CREATE TABLE … (LIKE … INCLUDING …) copies without a lock on it. nil: the statement is no such.
	Copied []Copied `json:"copied,omitempty"`

	// Chosen are names that the server chose for indexes and sequences, and that a replay might choose differently.
	Chosen []Chosen `json:"chosen,omitempty"`

	// State has a fingerprint of each relation that the change made or altered, as it stood after the
	// statement; the replay compares it on servers of the same major version.
	State []RelationState `json:"state,omitempty"`
	// Snapshot is what State was read under, or an earlier one (a pg_snapshot). A transaction that was not in it
	// may have committed before this one: State doesn't know of it, and the replay does.
	Snapshot string `json:"snapshot,omitempty"`
	// ServerVersion is server_version_num of the source.
	ServerVersion int `json:"server_version"`

	// Bytes: the source is an SQL_ASCII database and the statement is not UTF-8. Decode has turned every string
	// back into the source's bytes; to execute them client_encoding must be SQL_ASCII.
	Bytes bool `json:"bytes,omitempty"`
}

// Object is something that a statement made, changed or dropped.
type Object struct {
	Type      string `json:"type"`             // as pg_identify_object names it: "table", "table column", "index", "type"
	Schema    string `json:"schema,omitempty"` // unquoted
	Name      string `json:"name,omitempty"`   // unquoted, for relations and types
	Identity  string `json:"identity"`         // as pg_identify_object quotes it
	OID       uint32 `json:"oid"`              // of the object at the source
	Extension bool   `json:"ext,omitempty"`    // made by an extension's script
	// ACL are the privileges on what the statement made: of "owner", "public" and each "role NAME", with * what they may grant;
	// one key "default" where they are those. nil: not known.
	ACL map[string][]string `json:"acl,omitempty"`
}

// Copied is something of a table that LIKE may have copied, or its comment alone.
type Copied struct {
	Type    string `json:"type"`          // index, statistics, constraint or column
	Name    string `json:"name"`          // unquoted; all but columns are in the table's schema
	SQL     string `json:"sql,omitempty"` // the statement that makes it; "" if it is there in any case
	Comment string `json:"comment,omitempty"`
}

// Chosen is an index or sequence of a table that the statement made, without a name in it.
type Chosen struct {
	Table  string `json:"table"`            // identity, quoted
	Parent string `json:"parent,omitempty"` // identity of the parent's index: this is the table's part of it
	Place  int    `json:"place,omitempty"`  // from 1: this is the index made so many'th on the new table
	Column string `json:"column,omitempty"` // unquoted: this is its sequence
	Name   string `json:"name"`             // unquoted
}

// RelationState is a relation as it stood after a statement.
type RelationState struct {
	OID         uint32 `json:"oid"`
	Schema      string `json:"schema"`
	Name        string `json:"name"`
	Fingerprint string `json:"fp"` // FingerprintVersion, a colon, and the MD5 of FingerprintSQL's text in hex
}

// Comparable reports whether the fingerprint is of the version that FingerprintSQL gives.
func (s RelationState) Comparable() bool {
	return strings.HasPrefix(s.Fingerprint, FingerprintVersion+":")
}

// Decode reads a message's content, ContentPrefix included. Whether it is genuine was found out when it was
// archived: what is in an archive under Prefix is. An error names what is wrong with it.
func Decode(content []byte) (*Message, error) {
	_, body, err := unseal(content)
	if err != nil {
		return nil, err
	}
	m := new(Message)
	if err := json.Unmarshal(body, m); err != nil {
		return nil, fmt.Errorf("schema change: %w", err)
	}
	if m.Version != 1 {
		return nil, fmt.Errorf("schema change of format version %d: this program knows 1", m.Version)
	}
	if m.Tag == "" {
		return nil, fmt.Errorf("schema change without a command tag")
	}
	if m.SQL != "" && m.User == "" {
		return nil, fmt.Errorf("schema change without the role that made it")
	}
	if m.Bytes {
		if err := m.toBytes(); err != nil {
			return nil, err
		}
	}
	return m, nil
}
