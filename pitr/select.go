package pitr

import (
	"slices"
	"strings"

	"tidemark/internal/basesnapshot"
	"tidemark/segment"
)

// selection is what of a snapshot is restored.
type selection struct {
	items  []basesnapshot.SchemaItem // in pg_dump's order
	tables []*basesnapshot.Table     // whose rows are loaded
	notes  []string

	filter tableFilter
	byID   map[int]*basesnapshot.SchemaItem
	loads  map[string]bool // namespace.name of tables

	sources map[uint32]bool // OIDs at the source of chosen tables, also of those that schema changes make
	stay    []string        // namespace.name of chosen tables that don't go into another schema
}

// wants reports whether a relation of the stream is replayed. Without patterns that is every one: a
// table that the snapshot does not know must be an error, not an omission.
func (s *selection) wants(namespace, name string) bool {
	return s.wantsQualified(segment.QualifiedName(namespace, name))
}

// wantsRelation is wants for a relation of the stream, which schema changes may have renamed.
func (s *selection) wantsRelation(r *segment.Relation) bool {
	return s.wants(r.Namespace, r.Name) || s.sources[r.ID]
}

// Relations are the kinds of items that a table pattern can leave out.
var relationKinds = []string{"TABLE", "VIEW", "MATERIALIZED VIEW", "FOREIGN TABLE"}

// Companions are the kinds of items that come with the relation they depend on.
var companionKinds = []string{
	"DEFAULT", "SEQUENCE OWNED BY", "TABLE ATTACH", "CONSTRAINT", "CHECK CONSTRAINT", "FK CONSTRAINT", "INDEX", "INDEX ATTACH",
	"STATISTICS", "TRIGGER", "RULE", "POLICY", "ROW SECURITY", "COMMENT", "ACL", "SECURITY LABEL", "SEQUENCE",
}

// selectItems chooses schema items and tables by the patterns. A chosen partitioned table brings its
// partitions, a chosen table what it needs: types, functions, sequences, parents. With support, everything that
// a change of its schema could need comes too.
func selectItems(m *basesnapshot.Manifest, filter tableFilter, publication string, support bool) *selection {
	s := &selection{filter: filter, byID: map[int]*basesnapshot.SchemaItem{}, loads: map[string]bool{}, sources: map[uint32]bool{}}
	settleSections(m.Schema)
	for i := range m.Schema {
		s.byID[m.Schema[i].ID] = &m.Schema[i]
	}
	chosen := map[int]bool{}
	if len(filter) == 0 {
		for id := range s.byID {
			chosen[id] = true
		}
	} else {
		s.choose(m.Schema, chosen)
		if support {
			s.support(m.Schema, chosen)
		}
	}
	gone := map[int]bool{}
	for _, it := range m.Schema {
		switch {
		case !chosen[it.ID]:
		case !s.keeps(it, publication):
			gone[it.ID] = true
		case describes(&it) && slices.ContainsFunc(it.Deps, func(d int) bool { return gone[d] }):
		default:
			s.items = append(s.items, it)
		}
	}
	s.chooseTables(m, chosen)
	return s
}

// settleSections gives items that pg_dump counts to no section, such as comments, the one that they stand in: what
// they describe has just been made there (ProcessArchiveRestoreOptions in pg_backup_archiver.c).
func settleSections(items []basesnapshot.SchemaItem) {
	section := "pre-data"
	for i := range items {
		if items[i].Section == "none" || items[i].Section == "" {
			items[i].Section = section
		}
		section = items[i].Section
	}
}

// keeps leaves out items that a restored database can't or must not have.
func (s *selection) keeps(it basesnapshot.SchemaItem, publication string) bool {
	switch {
	case it.OfDatabase, it.Section == "data", it.Kind == "ENCODING", it.Kind == "STDSTRINGS", it.Kind == "SEARCHPATH", it.Kind == "DATABASE", strings.HasPrefix(it.Kind, "BLOB"):
		return false
	case it.Kind == "SUBSCRIPTION", it.Kind == "SUBSCRIPTION TABLE":
		s.notes = append(s.notes, "subscription "+it.Name+" was left out: it would take changes from its publisher")
		return false
	case it.Kind == "PUBLICATION" && it.Name == publication, strings.HasPrefix(it.Kind, "PUBLICATION TABLE") && strings.HasPrefix(it.Name, publication+" "):
		return false // the archiver's own: the restored database is not being archived
	case it.Redacted:
		s.notes = append(s.notes, strings.ToLower(it.Kind)+" "+it.Name+" holds a password that is not in the archive: set it")
	}
	return true
}

func (s *selection) choose(items []basesnapshot.SchemaItem, chosen map[int]bool) {
	for _, it := range items {
		if slices.Contains(relationKinds, it.Kind) && s.filter.match(it.Namespace, it.Name) {
			s.need(it.ID, chosen)
		}
	}
	for grown := true; grown; {
		grown = false
		for i := range items {
			it := &items[i]
			if chosen[it.ID] {
				continue
			}
			if it.Kind == "TABLE ATTACH" && s.attachChosen(it, chosen) || slices.Contains(companionKinds, it.Kind) && s.belongs(it, chosen) {
				s.need(it.ID, chosen)
				grown = true
			}
		}
	}
}

// supporting are the kinds of items that changes of a table may name.
var supporting = []string{"SCHEMA", "EXTENSION", "TYPE", "SHELL TYPE", "DOMAIN", "FUNCTION", "PROCEDURE", "AGGREGATE", "OPERATOR", "OPERATOR CLASS", "OPERATOR FAMILY",
	"COLLATION", "CAST", "ACCESS METHOD", "PROCEDURAL LANGUAGE", "TEXT SEARCH PARSER", "TEXT SEARCH TEMPLATE", "TEXT SEARCH DICTIONARY", "TEXT SEARCH CONFIGURATION"}

// support chooses types, functions and the like, as far as they need no other relation.
func (s *selection) support(items []basesnapshot.SchemaItem, chosen map[int]bool) {
	n := len(chosen)
	for _, it := range items {
		if slices.Contains(supporting, it.Kind) && s.reachable(it.ID, chosen, map[int]bool{}) {
			s.need(it.ID, chosen)
		}
	}
	if len(chosen) > n {
		s.notes = append(s.notes, "types, functions and the like that the chosen tables don't use were restored as well: the schema changed on the way")
	}
}

// need chooses an item with all it depends on.
func (s *selection) need(id int, chosen map[int]bool) {
	it := s.byID[id]
	if it == nil || chosen[id] {
		return
	}
	chosen[id] = true
	for _, d := range it.Deps {
		s.need(d, chosen)
	}
}

// attachChosen reports whether the partitioned table that a partition is attached to is chosen: then the
// partition is as well.
func (s *selection) attachChosen(it *basesnapshot.SchemaItem, chosen map[int]bool) bool {
	for _, d := range it.Deps {
		dep := s.byID[d]
		if dep != nil && dep.Kind == "TABLE" && (dep.Namespace != it.Namespace || dep.Name != it.Name) && chosen[d] {
			return true
		}
	}
	return false
}

// belongs reports whether a companion's relations are all chosen, directly and through what else it needs.
func (s *selection) belongs(it *basesnapshot.SchemaItem, chosen map[int]bool) bool {
	direct := false
	for _, d := range it.Deps {
		dep := s.byID[d]
		if dep == nil {
			continue
		}
		if chosen[d] && dep.Kind != "SCHEMA" && dep.Kind != "EXTENSION" {
			direct = true
		}
		if !s.reachable(d, chosen, map[int]bool{}) {
			return false
		}
	}
	// A sequence of its own is chosen by the default that uses it; that of an identity column alters the table.
	if it.Kind == "SEQUENCE" {
		return direct && strings.Contains(it.SQL, "ALTER TABLE")
	}
	return direct
}

// reachable reports whether an item can be had without choosing a further relation.
func (s *selection) reachable(id int, chosen, seen map[int]bool) bool {
	it := s.byID[id]
	if it == nil || chosen[id] || seen[id] {
		return true
	}
	if slices.Contains(relationKinds, it.Kind) || it.Section == "post-data" {
		return false
	}
	seen[id] = true
	for _, d := range it.Deps {
		if !s.reachable(d, chosen, seen) {
			return false
		}
	}
	return true
}

func (s *selection) chooseTables(m *basesnapshot.Manifest, chosen map[int]bool) {
	made := map[string]bool{}
	for _, it := range m.Schema {
		if it.Kind == "TABLE" && chosen[it.ID] {
			made[segment.QualifiedName(it.Namespace, it.Name)] = true
			s.sources[it.OID] = true
		}
		if it.Kind == "FK CONSTRAINT" && !chosen[it.ID] {
			table, name, _ := strings.Cut(it.Name, " ")
			if made[segment.QualifiedName(it.Namespace, table)] {
				s.notes = append(s.notes, "foreign key "+name+" of "+it.Namespace+"."+table+" was left out: the table it references is not restored")
			}
		}
	}
	for i := range m.Tables {
		t := &m.Tables[i]
		byRoot := t.Root != nil && s.filter.match(t.Root.Namespace, t.Root.Name)
		if made[t.String()] || s.filter.match(t.Namespace, t.Name) || byRoot {
			s.tables = append(s.tables, t)
			s.loads[t.String()] = true
			s.sources[t.OID] = true
		}
	}
}

// wantsQualified is wants for namespace.name, unquoted.
func (s *selection) wantsQualified(table string) bool {
	return s.loads[table] || s.filter.matchQualified(table) && !slices.Contains(s.stay, table)
}
