package pipeline

import (
	"tidemark/catalog"
	"tidemark/segment"
)

// catalogSegment returns the catalog's record of a closed segment, without objects and running maximum.
func catalogSegment(s segment.Summary) *catalog.Segment {
	c := &catalog.Segment{
		Transactions: s.Transactions, Inserts: s.Inserts, Updates: s.Updates, Deletes: s.Deletes,
		Truncates: s.Truncates, Messages: s.Messages, DDL: s.DDL,
		FirstCommitLSN: s.FirstCommitLSN, LastCommitLSN: s.LastCommitLSN,
		FirstCommitTime: s.FirstCommitTime, LastCommitTime: s.LastCommitTime,
		MinCommitTime: s.MinCommitTime, MaxCommitTime: s.MaxCommitTime,
		MinXID: s.MinXID, MaxXID: s.MaxXID, RawBytes: s.RawBytes, TablesCut: s.TablesCut,
	}
	for _, t := range s.Tables {
		c.Tables = append(c.Tables, catalog.TableCounts(t))
	}
	for _, m := range s.Marks {
		c.Marks = append(c.Marks, catalog.Mark(m))
	}
	return c
}
