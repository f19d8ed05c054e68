package fold

// Mark is a place between two operations, by how many of each table came before.
type Mark map[*Table]uint64

// Mark returns the place behind the operation that was noted last.
func (f *Folder) Mark() Mark {
	m := make(Mark, len(f.tables))
	for _, t := range f.tables {
		m[t] = t.number
	}
	return m
}

// Reading is the second reading, from one mark to another. One goroutine uses it; several Readings of different parts may
// be under way at once, but the operations of a table InOrder are only in order within one. Where nothing is folded a nil
// one does.
type Reading struct {
	f        *Folder
	from, to Mark
	tables   map[uint32]*Decider // by OID at the source
}

// Read begins to read what lies between two marks a second time.
func (f *Folder) Read(from, to Mark) *Reading {
	r := &Reading{f: f, from: from, to: to, tables: map[uint32]*Decider{}}
	for _, t := range f.Tables() {
		r.tables[t.oid] = &Decider{view: view{f: f, t: t}, decided: from[t]}
	}
	return r
}

// Table returns what decides about the operations of a table; nil for tables that are not folded.
func (r *Reading) Table(oid uint32) *Decider {
	if r == nil {
		return nil
	}
	return r.tables[oid]
}

// End checks that there was as much to read as the first time.
func (r *Reading) End() error {
	if r == nil {
		return nil
	}
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	for _, d := range r.tables {
		if d.decided != r.to[d.t] {
			return refuse(d.t, otherwise)
		}
		d.t.read += d.decided - r.from[d.t]
		if l := d.t.lasts; l != nil {
			l.left[0] -= d.met[0]
			l.left[1] -= d.met[1]
		}
	}
	return nil
}

// Replayed checks that all was read a second time, and that it was the same.
func (f *Folder) Replayed() error {
	for _, t := range f.Tables() {
		if t.read != t.number || t.lasts != nil && t.lasts.left != (hash{}) {
			return refuse(t, otherwise)
		}
	}
	return nil
}
