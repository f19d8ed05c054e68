package apply

import "tidemark/segment"

// tellSlow says once of a table that each update and delete reads all of it: neither a key nor an index finds a row.
// In a feed that goes on for ever, where a restore makes indexes of its own for as long as it takes.
func (a *Applier) tellSlow(t *table, r *segment.Record) {
	if t.slowTold || a.opts.Atomic == nil || len(t.narrow) > 0 || findBy(r) != byImage && t.indexed(t.keys) {
		return
	}
	t.slowTold = true
	a.tell("each update and delete of " + t.name + " reads the whole table: it has neither a key nor an index. An index on a column that tells its rows apart, " +
		"made in the database that is fed or at the source, makes that fast, from the next start on")
}
