package pitr

import (
	"fmt"
	"slices"
	"strings"

	"tidemark/internal/basesnapshot"
	"tidemark/internal/fault"
)

// Kinds of items that can go into another schema: what lies in a schema, and what belongs to that.
var movableKinds = []string{
	"TABLE", "VIEW", "MATERIALIZED VIEW", "SEQUENCE", "SEQUENCE OWNED BY", "DEFAULT", "TABLE ATTACH", "CONSTRAINT", "CHECK CONSTRAINT",
	"FK CONSTRAINT", "INDEX", "INDEX ATTACH", "STATISTICS", "POLICY", "ROW SECURITY", "COMMENT", "ACL", "SECURITY LABEL",
	"TYPE", "SHELL TYPE", "DOMAIN", "FUNCTION", "PROCEDURE", "AGGREGATE", "OPERATOR", "OPERATOR CLASS", "OPERATOR FAMILY", "COLLATION", "CONVERSION",
	"TEXT SEARCH CONFIGURATION", "TEXT SEARCH DICTIONARY", "TEXT SEARCH PARSER", "TEXT SEARCH TEMPLATE",
}

// Kinds of items that others may need and that the target database has itself, or can do without.
var ambientKinds = []string{"SCHEMA", "EXTENSION", "PROCEDURAL LANGUAGE", "ACCESS METHOD", "TRANSFORM", "CAST"}

// movable reports whether an item goes into the other schema. The rules of a view are the view.
func movable(it *basesnapshot.SchemaItem) bool {
	if it.Kind == "RULE" {
		return strings.HasPrefix(it.SQL, "CREATE OR REPLACE VIEW ")
	}
	if it.Namespace == "" || strings.HasPrefix(it.Name, "SCHEMA ") && (it.Kind == "ACL" || it.Kind == "COMMENT" || it.Kind == "SECURITY LABEL") {
		return false
	}
	return slices.Contains(movableKinds, it.Kind)
}

// moveInto turns the selection into one of the other schema: statements name it, and what can't be in it is
// left out. Foreign tables, triggers and rules are: they would reach out of it.
func (s *selection) moveInto(schema string) (*schemaMap, error) {
	m := &schemaMap{to: schema, names: map[qualifiedName]bool{}}
	gone := s.immovable()
	var kept []basesnapshot.SchemaItem
	for i := range s.items {
		if it := s.items[i]; !gone[it.ID] && it.Kind != "CAST" {
			m.add(&it)
			kept = append(kept, it)
		} else if it.Kind == "CAST" {
			kept = append(kept, it)
		}
	}
	if err := oneOfEachName(kept); err != nil {
		return nil, err
	}
	s.items = s.items[:0:0]
	for _, it := range kept {
		was := it.SQL
		it.Extension, it.MemberSQL, it.InitialSQL = "", "", "" // the copy is no member of the extension
		var err error
		if it.SQL, err = m.rewrite(it.SQL); err == nil {
			it.OwnerSQL, err = m.rewrite(it.OwnerSQL)
		}
		if err != nil {
			return nil, itemError(&it, err)
		}
		if it.Kind == "CAST" && it.SQL == was {
			continue // the database has it
		}
		if it.SQL == was && len(words(was)) > 0 {
			// It would act on what lies there already.
			return nil, fault.New(fault.Failed, "restore into a new database with --create", "%s %s.%s can't go into another schema", strings.ToLower(it.Kind), it.Namespace, it.Name)
		}
		s.items = append(s.items, it)
	}
	var theirs []string
	for _, t := range s.tables {
		if !m.has(t.Namespace, t.Name) {
			theirs = append(theirs, t.String())
			s.notes = append(s.notes, "table "+t.String()+" was left out: it belongs to an extension")
		}
	}
	s.leaveRows(theirs)
	return m, nil
}

// immovable finds the chosen items that can't go, and those that need them.
func (s *selection) immovable() map[int]bool {
	gone := map[int]bool{}
	fired := 0
	for grown := true; grown; {
		grown = false
		for i := range s.items {
			it := &s.items[i]
			if gone[it.ID] || it.Kind == "CAST" {
				continue
			}
			needs := slices.ContainsFunc(it.Deps, func(d int) bool {
				return gone[d] && !slices.Contains(ambientKinds, s.byID[d].Kind)
			})
			if !needs && movable(it) {
				continue
			}
			gone[it.ID], grown = true, true
			switch {
			case it.Kind == "TRIGGER" || it.Kind == "RULE":
				fired++
			case slices.Contains(relationKinds, it.Kind):
				s.notes = append(s.notes, strings.ToLower(it.Kind)+" "+it.Namespace+"."+it.Name+" was left out: it reaches out of the schema")
			}
		}
	}
	if fired > 0 {
		s.notes = append(s.notes, fmt.Sprintf("%d triggers and rules were left out: they could reach out of the schema", fired))
	}
	return gone
}

// oneOfEachName refuses tables of several schemas whose names would meet in one.
func oneOfEachName(items []basesnapshot.SchemaItem) error {
	type slot struct{ class, name string }
	owners := map[slot]string{}
	for _, it := range items {
		s := slot{class: it.Kind, name: it.Name}
		switch it.Kind {
		case "TABLE", "VIEW", "MATERIALIZED VIEW", "SEQUENCE", "INDEX":
			s.class = "relation"
		case "CONSTRAINT":
			s = slot{"relation", constraintName(it.SQL)}
		case "TYPE", "DOMAIN", "SHELL TYPE":
			s.class = "type"
		case "FUNCTION", "PROCEDURE", "AGGREGATE":
			s.class = "function"
		case "STATISTICS", "COLLATION", "CONVERSION":
		default:
			continue
		}
		if other, ok := owners[s]; ok && other != it.Namespace {
			return fault.New(fault.Usage, "restore each schema by itself, with --table "+other+".* and --table "+it.Namespace+".*",
				"%s and %s both have a %s %s, and one schema can't", other, it.Namespace, s.class, s.name)
		}
		owners[s] = it.Namespace
	}
	return nil
}

// leaveRows leaves the rows of tables out, by namespace.name: neither loaded nor replayed.
func (s *selection) leaveRows(tables []string) {
	s.tables = slices.DeleteFunc(s.tables, func(t *basesnapshot.Table) bool {
		if !slices.Contains(tables, t.String()) {
			return false
		}
		delete(s.loads, t.String())
		delete(s.sources, t.OID)
		return true
	})
	s.stay = append(s.stay, tables...)
}
