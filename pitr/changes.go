package pitr

import (
	"bytes"
	"context"
	"io"
	"regexp"
	"slices"
	"strings"

	"tidemark/catalog"
	"tidemark/internal/ddl"
	"tidemark/internal/fault"
	"tidemark/pitr/apply"
	"tidemark/segment"
)

// SchemaChanges reads the schema changes of a segment entry, in order, for Applier.Announce. It reads the
// segment's objects only if the catalog says that it has any, and no rows. Message is nil for one that can't be
// read: the Applier says why when its place comes. Errors are faults.
func (a *Archive) SchemaChanges(ctx context.Context, e catalog.Entry) ([]apply.Announced, error) {
	if e.Segment == nil || e.Segment.DDL == 0 {
		return nil, nil
	}
	objects := e.Segment.Objects
	return a.scanChanges(e, func() (segment.PartFile, error) {
		if len(objects) == 0 {
			return segment.PartFile{}, io.EOF
		}
		o := objects[0]
		objects = objects[1:]
		data, err := a.getVerified(ctx, o)
		return partFile(o, data), err
	})
}

func partFile(o catalog.Object, data []byte) segment.PartFile {
	return segment.PartFile{R: bytes.NewReader(data), Size: int64(len(data)), Name: o.Key}
}

// scanChanges reads the schema changes from a segment's parts.
func (a *Archive) scanChanges(e catalog.Entry, next func() (segment.PartFile, error)) ([]apply.Announced, error) {
	noRows := func(*segment.Relation) bool { return false }
	var out []apply.Announced
	var at segment.LSN
	for rec, err := range a.records(e, next, segment.ReaderOptions{Want: noRows}) {
		if err != nil {
			return nil, err
		}
		switch rec.Op {
		case segment.OpBegin:
			at = rec.Begin.CommitLSN
		case segment.OpMessage:
			m, err := apply.DecodeChange(rec)
			if m != nil || err != nil {
				out = append(out, apply.Announced{CommitLSN: at, LSN: rec.Message.LSN, Message: m})
			}
		}
	}
	return out, nil
}

// announce tells the applier of the schema changes of an entry that are to be replayed.
func (r *run) announce(ctx context.Context, a *apply.Applier, source *segmentParts) error {
	e := r.entries[source.entry]
	if e.Segment.DDL == 0 {
		return nil
	}
	var changes []apply.Announced
	held, err := source.hold()
	if err != nil {
		return err
	}
	if held {
		changes, err = r.o.Archive.scanChanges(e, source.peek())
	} else {
		changes, err = r.o.Archive.SchemaChanges(ctx, e)
	}
	if err != nil {
		return err
	}
	a.Announce(r.inRange(changes))
	return nil
}

// inRange are those of a segment's schema changes that the plan replays.
func (plan *Plan) inRange(changes []apply.Announced) []apply.Announced {
	return slices.DeleteFunc(changes, func(c apply.Announced) bool {
		return c.CommitLSN < plan.Snapshot.LSN || c.CommitLSN >= plan.Cut
	})
}

// inRange are those of a segment's schema changes that are to be replayed. It notes which tables they make.
func (r *run) inRange(changes []apply.Announced) []apply.Announced {
	changes = r.plan.inRange(changes)
	for _, c := range changes {
		r.chosen.made(c.Message)
	}
	return changes
}

// made notes tables that a change makes and that are wanted: new ones that the patterns match, and partitions
// of those that are chosen.
func (s *selection) made(m *ddl.Message) {
	if m == nil || len(s.filter) == 0 || !makesRelation(m) {
		return
	}
	for _, o := range m.Relations() {
		if s.filter.match(o.Schema, o.Name) || s.partitionOfChosen(m) {
			s.sources[o.OID] = true
		}
	}
}

func makesRelation(m *ddl.Message) bool {
	return strings.HasPrefix(m.Tag, "CREATE") && strings.HasSuffix(m.Tag, "TABLE") || m.Tag == "CREATE TABLE AS" || m.Tag == "SELECT INTO" ||
		m.Tag == "CREATE VIEW" || m.Tag == "CREATE MATERIALIZED VIEW"
}

var partitionOf = regexp.MustCompile(`(?is)\bPARTITION\s+OF\s+(?-i:((?:"(?:[^"]|"")+"|[^\s.(]+)\s*\.\s*)?("(?:[^"]|"")+"|[^\s.(;]+))`)

// partitionOfChosen reports whether the statement makes a partition of a chosen table. Without its schema, a
// table of that name in any counts: an empty table too much does no harm.
func (s *selection) partitionOfChosen(m *ddl.Message) bool {
	found := partitionOf.FindStringSubmatch(m.SQL)
	if found == nil {
		return false
	}
	namespace, name := unquote(strings.TrimRight(strings.TrimSpace(found[1]), ". \t\n")), unquote(found[2])
	for i := range s.items {
		if it := &s.items[i]; it.Kind == "TABLE" && it.Name == name && (namespace == "" || it.Namespace == namespace) {
			return true
		}
	}
	return namespace != "" && s.filter.match(namespace, name)
}

// unquote reads a name as SQL does.
func unquote(name string) string {
	if strings.HasPrefix(name, `"`) {
		return strings.ReplaceAll(strings.Trim(name, `"`), `""`, `"`)
	}
	return strings.ToLower(name)
}

// touches reports whether a change is about a chosen table.
func (s *selection) touches(m *ddl.Message) bool {
	chosen := func(o ddl.Object) bool {
		return (o.IsRelation() || o.Type == "table column") && s.sources[o.OID]
	}
	return slices.ContainsFunc(m.Objects, chosen) || slices.ContainsFunc(m.Dropped, chosen)
}

// harmless are the tags of changes that rows don't depend on.
var harmless = []string{"COMMENT", "GRANT", "REVOKE", "SECURITY LABEL"}

// choose says what becomes of a schema change in this restore.
func (r *run) choose(m *ddl.Message) (apply.Choice, error) {
	s := r.chosen
	switch {
	case r.o.DataOnly || r.names != nil:
		if !s.touches(m) || slices.Contains(harmless, m.Tag) {
			return apply.Leave, nil
		}
		return apply.Leave, fault.New(fault.Usage, "restore into a database of its own, or to a moment before the change",
			"--data-only and --as-schema can't replay changes of the tables, and the range holds one: %s", apply.Describe(m))
	case len(s.filter) == 0 || s.touches(m):
		return apply.Make, nil
	case makesRelation(m):
		return apply.Leave, nil
	}
	return apply.Try, nil
}

// schemaOptions say how schema changes are replayed.
func (r *run) schemaOptions() *apply.Schema {
	return &apply.Schema{
		Since: r.plan.Snapshot.LSN, Partial: len(r.chosen.filter) > 0,
		Choose: r.choose, AcceptInexact: r.o.AcceptInexact, NoOwner: r.o.NoOwner, NoPrivileges: r.o.NoPrivileges,
		Within: r.names.schema(), Helpers: r.helpers, Empty: r.empty, Note: func(s string) { r.note(s) },
	}
}
