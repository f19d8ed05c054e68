package catalog

import (
	"slices"

	"tidemark/segment"
)

// Counts are sums over segments.
type Counts struct {
	Segments     int64 `json:"segments"`
	Objects      int64 `json:"objects"`
	Transactions int64 `json:"tx"`
	Inserts      int64 `json:"ins"`
	Updates      int64 `json:"upd"`
	Deletes      int64 `json:"del"`
	Truncates    int64 `json:"trunc"`
	Messages     int64 `json:"msg"`
	DDL          int64 `json:"ddl"`
	Refused      int64 `json:"refused,omitempty"`
	RawBytes     int64 `json:"raw"`    // of pgoutput messages
	StoredBytes  int64 `json:"stored"` // of the objects
}

func (c *Counts) add(o Counts) {
	c.Segments += o.Segments
	c.Objects += o.Objects
	c.Transactions += o.Transactions
	c.Inserts += o.Inserts
	c.Updates += o.Updates
	c.Deletes += o.Deletes
	c.Truncates += o.Truncates
	c.Messages += o.Messages
	c.DDL += o.DDL
	c.Refused += o.Refused
	c.RawBytes += o.RawBytes
	c.StoredBytes += o.StoredBytes
}

// CountsOf returns the counts of one segment.
func CountsOf(s *Segment) Counts {
	return Counts{Segments: 1, Objects: int64(len(s.Objects)), Transactions: s.Transactions, Inserts: s.Inserts, Updates: s.Updates, Deletes: s.Deletes, Truncates: s.Truncates,
		Messages: s.Messages, DDL: s.DDL, Refused: s.Refused, RawBytes: s.RawBytes, StoredBytes: s.StoredBytes}
}

// reach is what a run of lines holds of one history's stream.
type reach struct {
	History    uint32            `json:"h"`
	From       segment.LSN       `json:"from"`
	To         segment.LSN       `json:"to"`
	RunningMax segment.Timestamp `json:"max,omitzero"` // at To
}

// summary describes a run of lines, a chapter or a book, so that readers can skip it.
type summary struct {
	First  uint64  `json:"first"` // seq
	Last   uint64  `json:"last"`
	Hash   string  `json:"hash"` // of line Last
	Ranges []reach `json:"ranges,omitempty"`
	Counts
	MinTime segment.Timestamp `json:"min_time,omitzero"`
	MaxTime segment.Timestamp `json:"max_time,omitzero"`
	MinXID  uint32            `json:"min_xid,omitempty"`
	MaxXID  uint32            `json:"max_xid,omitempty"`
	Void    []uint64          `json:"void,omitempty"`
}

func (s summary) clone() summary {
	s.Ranges = slices.Clone(s.Ranges)
	s.Void = slices.Clone(s.Void)
	return s
}

// extend adds the range of stream entries that come next.
func (s *summary) extend(r reach) {
	if n := len(s.Ranges); n > 0 && s.Ranges[n-1].History == r.History {
		s.Ranges[n-1].To, s.Ranges[n-1].RunningMax = r.To, r.RunningMax
		return
	}
	s.Ranges = append(s.Ranges, r)
}

func (s *summary) addBounds(minTime, maxTime segment.Timestamp, minXID, maxXID uint32) {
	s.MinTime, s.MaxTime = least(s.MinTime, minTime), max(s.MaxTime, maxTime)
	s.MinXID, s.MaxXID = least(s.MinXID, minXID), max(s.MaxXID, maxXID)
}

// least is min where zero means "none".
func least[T segment.Timestamp | uint32](a, b T) T {
	if a == 0 || (b != 0 && b < a) {
		return b
	}
	return a
}

// join makes one summary of runs that follow one another.
func join(parts []summary) summary {
	all := parts[0].clone()
	for _, p := range parts[1:] {
		all.Last, all.Hash = p.Last, p.Hash
		for _, r := range p.Ranges {
			all.extend(r)
		}
		all.Counts.add(p.Counts)
		all.addBounds(p.MinTime, p.MaxTime, p.MinXID, p.MaxXID)
		all.Void = append(all.Void, p.Void...)
	}
	return all
}

// overlaps reports whether the run may hold a stream entry that touches r.
func (s *summary) overlaps(r Range) bool {
	return slices.ContainsFunc(s.Ranges, func(p reach) bool { return r.touches(p.History, p.From, p.To) })
}
