package segment

import (
	"cmp"
	"slices"
)

// maxTables is the number of tables that a Summary lists.
const maxTables = 256

// TableCounts are the row operations on one table.
type TableCounts struct {
	Table     string // namespace.name, unquoted
	Inserts   int64
	Updates   int64
	Deletes   int64
	Truncates int64
}

// Mark is a named restore point: a transactional logical message with prefix "tidemark" and content
// "mark:NAME".
type Mark struct {
	Name string
	LSN  LSN       // of the message; it lies before its transaction's commit LSN
	Time Timestamp // commit time
}

// Summary is what a segment holds, in numbers.
type Summary struct {
	Identity // with To

	Transactions int64
	Inserts      int64
	Updates      int64
	Deletes      int64
	Truncates    int64 // one for each table of a TRUNCATE
	Messages     int64 // logical messages, also those outside transactions
	DDL          int64 // of them DDL: transactional, prefix "tidemark", content "ddl:…"
	Operations   int64 // all of the above, begins and commits counted singly, definitions, origins

	FirstCommitLSN  LSN // zero without transactions
	LastCommitLSN   LSN
	FirstCommitTime Timestamp // in commit order, foreign ones too
	LastCommitTime  Timestamp
	MinCommitTime   Timestamp // without transactions that have an origin; zero when there are no others
	MaxCommitTime   Timestamp
	MinXID          uint32 // plain numeric order
	MaxXID          uint32

	RawBytes    int64 // of the pgoutput messages
	StoredBytes int64 // of all parts; zero in an Index, which doesn't know
	Parts       int
	Blocks      int

	Tables    []TableCounts // the changed tables, by name; at most 256, those with most operations
	TablesCut bool          // more tables changed than Tables lists
	Marks     []Mark        // in stream order

	SequencesLSN LSN // position of the sample of sequences; zero when there is none
	Sequences    int // sequences in it
}

// tableCounts adds up changes of relation versions by table name, leaving out what did not change.
func tableCounts(names []string, changes []Change) (tables []TableCounts, cut bool) {
	at := make(map[string]int)
	for v, c := range changes {
		if c.Inserts+c.Updates+c.Deletes+c.Truncates == 0 {
			continue
		}
		i, ok := at[names[v]]
		if !ok {
			i = len(tables)
			at[names[v]] = i
			tables = append(tables, TableCounts{Table: names[v]})
		}
		t := &tables[i]
		t.Inserts += c.Inserts
		t.Updates += c.Updates
		t.Deletes += c.Deletes
		t.Truncates += c.Truncates
	}
	byName := func(a, b TableCounts) int { return cmp.Compare(a.Table, b.Table) }
	if len(tables) > maxTables {
		slices.SortFunc(tables, func(a, b TableCounts) int {
			return cmp.Or(cmp.Compare(b.operations(), a.operations()), byName(a, b))
		})
		tables, cut = slices.Clip(tables[:maxTables]), true
	}
	slices.SortFunc(tables, byName)
	return tables, cut
}

func (t TableCounts) operations() int64 { return t.Inserts + t.Updates + t.Deletes + t.Truncates }
