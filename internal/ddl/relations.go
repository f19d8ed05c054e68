package ddl

import (
	"slices"
	"strconv"
	"strings"

	"tidemark/segment"
)

// relationTypes are the object types, as pg_identify_object names them, that are relations with rows of their own.
var relationTypes = []string{"table", "foreign table", "materialized view"}

// IsRelation reports whether the object is a table of some kind: a table (partitioned or not), a foreign
// table or a materialised view.
func (o Object) IsRelation() bool { return slices.Contains(relationTypes, o.Type) }

// Relations returns the tables that the statement made or changed, each once.
func (m *Message) Relations() []Object { return relationsOf(m.Objects) }

// DroppedRelations returns the tables that the statement dropped.
func (m *Message) DroppedRelations() []Object { return relationsOf(m.Dropped) }

func relationsOf(objects []Object) []Object {
	var list []Object
	for _, o := range objects {
		if o.IsRelation() && !slices.ContainsFunc(list, func(p Object) bool { return p.OID == o.OID }) {
			list = append(list, o)
		}
	}
	return list
}

// TableNames returns the qualified names (segment.QualifiedName) of every table that the message names: made, changed, dropped or
// called inexact. Sorted, each once.
func (m *Message) TableNames() []string {
	var names []string
	for _, list := range [][]Object{m.Relations(), m.DroppedRelations()} {
		for _, o := range list {
			names = append(names, segment.QualifiedName(o.Schema, o.Name))
		}
	}
	for _, s := range m.State {
		names = append(names, segment.QualifiedName(s.Schema, s.Name))
	}
	names = append(names, m.Tables...)
	slices.Sort(names)
	return slices.Compact(names)
}

// parseVersion reads the body of tidemark.ddl_version: "SELECT 1 /* all_tables=true publication='p' */".
func parseVersion(body string) (int, Options) {
	var o Options
	rest, ok := strings.CutPrefix(strings.TrimSpace(body), "SELECT ")
	if !ok {
		return 0, o
	}
	number, rest, _ := strings.Cut(rest, " ")
	version, err := strconv.Atoi(number)
	if err != nil {
		return 0, o
	}
	o.AllTables = strings.Contains(rest, "all_tables=true ")
	if _, quoted, ok := strings.Cut(rest, "publication='"); ok {
		o.Publication = strings.ReplaceAll(strings.TrimSuffix(quoted, "' */"), "''", "'")
	}
	return version, o
}
