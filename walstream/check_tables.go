package walstream

import (
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// checkTables looks at each wanted table.
func (s *source) checkTables() (list []Finding) {
	for _, t := range s.tables {
		if t.wanted && t.published() {
			list = append(list, s.checkTable(t)...)
		}
	}
	for _, p := range s.patterns {
		if !slices.ContainsFunc(s.tables, func(t *sourceTable) bool { return p.Match(t.Namespace, t.Name) }) {
			list = append(list, Finding{"pattern_no_table", true, p.text, "no table matches the pattern", ""})
		}
	}
	if len(s.patterns) == 0 && !s.allTables() && s.pub == nil && len(s.listed()) == 0 {
		list = append(list, Finding{"no_table", true, s.server.Database, "there is no table to publish", ""})
	}
	return list
}

func (s *source) checkTable(t *sourceTable) (list []Finding) {
	if f, bad := s.checkIdentity(t); bad {
		list = append(list, f)
	}
	if !t.Readable {
		schema := pgx.Identifier{t.Namespace}.Sanitize()
		list = append(list, Finding{"table_select", true, t.Quoted, "the role may not read the table, so a base snapshot can't",
			fmt.Sprintf("GRANT USAGE ON SCHEMA %s TO %s; GRANT SELECT ON %s TO %s", schema, s.server.Role, t.Quoted, s.server.Role)})
	}
	if t.RowSecurity {
		list = append(list, Finding{"table_row_security", true, t.Quoted, "row security hides rows from the role",
			"ALTER ROLE " + s.server.Role + " BYPASSRLS"})
	}
	if s.pub == nil && !s.server.Superuser && !t.Owned {
		list = append(list, Finding{"table_owner", true, t.Quoted, "only the owner can add the table to a publication",
			"GRANT " + t.Owner + " TO " + s.server.Role})
	}
	return list
}

// checkIdentity looks whether UPDATE and DELETE go on working once the table is published
// (CheckCmdReplicaIdentity in src/backend/executor/execReplication.c). Where a publication is there
// already the application feels it, but the archive misses nothing.
func (s *source) checkIdentity(t *sourceTable) (Finding, bool) {
	f := Finding{ID: "replica_identity", Fatal: s.pub == nil, Object: t.Quoted}
	switch {
	case t.Kind != "r":
		return f, false // rows live in the partitions
	case t.Identity == "f" && t.Generated && s.server.Version >= 180000 && (s.pub == nil || !s.pub.GeneratedColumns):
		f.Problem = "REPLICA IDENTITY FULL covers generated columns that are not published: UPDATE and DELETE would fail"
		if f.Fix = "ALTER TABLE " + t.Quoted + " ADD PRIMARY KEY (...)"; t.HasKey {
			f.Fix = "ALTER TABLE " + t.Quoted + " REPLICA IDENTITY DEFAULT"
		}
		return f, true
	case t.Identity == "f" || t.KeyUsable:
		return f, false
	}
	f.Problem = "it has no usable replica identity (" + identityProblem(t) + "): once it is published, UPDATE and DELETE fail"
	switch {
	case t.HasKey:
		f.Fix = "ALTER TABLE " + t.Quoted + " REPLICA IDENTITY DEFAULT"
	case t.Generated && s.server.Version >= 180000:
		f.Fix = "ALTER TABLE " + t.Quoted + " ADD PRIMARY KEY (...)"
	default:
		f.Fix = "ALTER TABLE " + t.Quoted + " REPLICA IDENTITY FULL"
	}
	return f, true
}

func identityProblem(t *sourceTable) string {
	switch t.Identity {
	case "n":
		return "REPLICA IDENTITY NOTHING"
	case "i":
		return "the index that REPLICA IDENTITY names is gone or invalid"
	}
	return "no primary key that is checked at once"
}

// checkPublication compares an existing publication with what is wanted.
func (s *source) checkPublication() (list []Finding) {
	p := s.pub
	if p == nil {
		return nil
	}
	name := pgx.Identifier{p.Name}.Sanitize()
	if !p.Insert || !p.Update || !p.Delete || !p.Truncate {
		list = append(list, Finding{"publication_operations", true, p.Name, "it doesn't publish every operation: " + p.missingOperations(),
			"ALTER PUBLICATION " + name + " SET (publish = 'insert, update, delete, truncate')"})
	}
	if p.ViaRoot {
		list = append(list, Finding{"publication_via_root", true, p.Name, "it publishes changes of partitions as their root's",
			"ALTER PUBLICATION " + name + " SET (publish_via_partition_root = false)"})
	}
	quoted := make(map[uint32]string)
	for _, t := range s.tables {
		quoted[t.OID] = t.Quoted
	}
	for _, t := range p.Tables {
		if t.Filtered {
			list = append(list, Finding{"publication_row_filter", true, p.Name, "only some rows of " + quoted[t.OID] + " are published",
				fmt.Sprintf("ALTER PUBLICATION %s DROP TABLE %s; ALTER PUBLICATION %s ADD TABLE ONLY %[2]s", name, quoted[t.OID], name)})
		}
		if t.Columns {
			list = append(list, Finding{"publication_columns", true, p.Name, "only some columns of " + quoted[t.OID] + " are published",
				fmt.Sprintf("ALTER PUBLICATION %s DROP TABLE %s; ALTER PUBLICATION %s ADD TABLE ONLY %[2]s", name, quoted[t.OID], name)})
		}
	}
	return append(list, s.checkMembers()...)
}

// checkMembers looks for wanted tables that the publication lacks. Where an archive goes on already,
// such a table is no reason to stop archiving the others.
func (s *source) checkMembers() (list []Finding) {
	for _, t := range s.uncovered() {
		problem := t.Quoted + " is not published; if that is meant, name the tables with --table"
		if len(s.patterns) > 0 {
			problem = t.Quoted + " is not published, and --table asks for it"
		}
		list = append(list, Finding{"publication_table", s.slot == nil, s.pub.Name, problem, s.addTable(t)})
	}
	return list
}

// addTable returns the statement that adds a table to the publication.
func (s *source) addTable(t *sourceTable) string {
	return "ALTER PUBLICATION " + pgx.Identifier{s.pub.Name}.Sanitize() + " ADD TABLE ONLY " + t.Quoted
}

// uncovered returns the wanted tables that a listed publication lacks.
func (s *source) uncovered() (list []*sourceTable) {
	if s.pub.AllTables {
		return nil
	}
	member, schema := make(map[uint32]bool), make(map[string]bool)
	for _, t := range s.pub.Tables {
		member[t.OID] = true
	}
	for _, n := range s.pub.Schemas {
		schema[n] = true
	}
	for _, t := range s.listed() {
		if !s.covers(t, member, schema) {
			list = append(list, t)
		}
	}
	return list
}

// covers reports whether a table is published by itself, its schema, an ancestor, or (a partitioned
// table, which has no rows itself) by all of its partitions being so.
func (s *source) covers(t *sourceTable, member map[uint32]bool, schema map[string]bool) bool {
	if member[t.OID] || schema[t.Namespace] {
		return true
	}
	for _, oid := range t.Ancestors {
		if member[oid] {
			return true
		}
	}
	return false
}

func (p *Publication) missingOperations() string {
	var missing []string
	for _, op := range []struct {
		name string
		on   bool
	}{{"insert", p.Insert}, {"update", p.Update}, {"delete", p.Delete}, {"truncate", p.Truncate}} {
		if !op.on {
			missing = append(missing, op.name)
		}
	}
	return strings.Join(missing, ", ") + " missing"
}

// checkUncovered names data that logical decoding never carries.
func (s *source) checkUncovered() (list []Finding) {
	for _, t := range s.tables {
		switch {
		case !t.wanted:
		case t.Kind == "f":
			list = append(list, Finding{"foreign_table", false, t.Quoted, "it is a foreign table: its rows live elsewhere and are not archived", ""})
		case t.Unlogged:
			list = append(list, Finding{"unlogged_table", false, t.Quoted,
				"it is unlogged: its changes are not archived",
				"ALTER TABLE " + t.Quoted + " SET LOGGED"})
		}
	}
	if s.server.LargeObjects {
		list = append(list, Finding{"large_objects", false, s.server.Database, "it has large objects, which logical decoding never carries", ""})
	}
	return list
}
