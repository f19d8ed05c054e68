package verify

import (
	"fmt"
	"slices"

	"tidemark/catalog"
	"tidemark/segment"
)

// compare reports where a decoded segment is not what its entry says. That no byte is damaged and the
// entry is still wrong would be a fault of the archiver that wrote it.
func (v *verifier) compare(e catalog.Entry, s segment.Summary) {
	want := e.Segment
	last := want.Objects[len(want.Objects)-1].Key
	for _, c := range []struct {
		what       string
		have, want any
	}{
		{"transactions", s.Transactions, want.Transactions},
		{"inserts", s.Inserts, want.Inserts},
		{"updates", s.Updates, want.Updates},
		{"deletes", s.Deletes, want.Deletes},
		{"truncates", s.Truncates, want.Truncates},
		{"messages", s.Messages, want.Messages},
		{"DDL messages", s.DDL, want.DDL},
		{"bytes of messages", s.RawBytes, want.RawBytes},
		{"stored bytes", s.StoredBytes, want.StoredBytes},
		{"first commit LSN", s.FirstCommitLSN, want.FirstCommitLSN},
		{"last commit LSN", s.LastCommitLSN, want.LastCommitLSN},
		{"first commit time", s.FirstCommitTime, want.FirstCommitTime},
		{"last commit time", s.LastCommitTime, want.LastCommitTime},
		{"least commit time", s.MinCommitTime, want.MinCommitTime},
		{"greatest commit time", s.MaxCommitTime, want.MaxCommitTime},
		{"least xid", s.MinXID, want.MinXID},
		{"greatest xid", s.MaxXID, want.MaxXID},
	} {
		if c.have != c.want {
			v.damaged(segmentDamage(e, last, -1, fmt.Sprintf("%s: it holds %v, entry %d says %v", c.what, c.have, e.Seq, c.want)), "")
		}
	}
	if !slices.Equal(tables(s), want.Tables) || s.TablesCut != want.TablesCut {
		v.damaged(segmentDamage(e, last, -1, fmt.Sprintf("its counts by table are not those of entry %d", e.Seq)), "")
	}
	if !slices.Equal(marks(s), want.Marks) {
		v.damaged(segmentDamage(e, last, -1, fmt.Sprintf("its marks are not those of entry %d", e.Seq)), "")
	}
}

func tables(s segment.Summary) (all []catalog.TableCounts) {
	for _, t := range s.Tables {
		all = append(all, catalog.TableCounts(t))
	}
	return all
}

func marks(s segment.Summary) (all []catalog.Mark) {
	for _, m := range s.Marks {
		all = append(all, catalog.Mark(m))
	}
	return all
}
