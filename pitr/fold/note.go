package fold

// Note takes the operations of a Batch in the first reading. Batches come in the order of the operations. An error is one of the archive: an operation doesn't fit
// those before.
func (f *Folder) Note(b *Batch) error {
	for ops := b.ops; len(ops) > 0; {
		n := min(len(ops), touched)
		f.touch(ops[:n])
		for i := range ops[:n] {
			if o := &ops[i]; o.kind == opGive {
				o.t.given, o.t.keys = b.given[o.t], keys{}
			} else if err := f.note(o); err != nil {
				return err
			}
		}
		ops = ops[n:]
	}
	return nil
}

// touch has the entries of operations' keys brought near the processor.
func (f *Folder) touch(ops []op) {
	sum := uint64(0)
	for i := range ops {
		sum += ops[i].t.keys.at(ops[i].key)
	}
	f.sink = sum
}

func (f *Folder) note(o *op) error {
	t := o.t
	switch {
	case t.given != nil:
		return nil // by another Reducer
	case o.kind == opEmpty:
		f.empty(t)
		return nil
	case o.kind == opMove:
		return f.comes(o) // number and count are those of the half before
	}
	t.number++
	if f.pass == 0 {
		t.count(o.kind)
	}
	if o.kind == opDelete || o.kind == opLeave {
		t.tangled = t.tangled || o.part
		return f.gone(t, o.key, o.part)
	}
	return f.comes(o)
}

func (t *Table) count(kind opKind) {
	switch kind {
	case opInsert:
		t.counts.Inserted++
		t.live++
	case opDelete:
		t.counts.Deleted++
		t.live--
	default:
		t.counts.Updated++
	}
}

// comes notes that there is a row with a key now.
func (f *Folder) comes(o *op) error {
	if !f.mine(o.key) {
		return nil
	}
	t := o.t
	e, known := f.entry(t, o.key)
	if e == nil {
		return nil
	}
	wasThere := o.kind == opUpdate
	switch {
	case !known && wasThere && t.emptyAt > 0, known && wasThere && !e.is(flagLive):
		return refuse(t, "an update of a row that is not there")
	case known && !wasThere && e.is(flagLive):
		return refuse(t, "a row comes with a key that another one has")
	case !known && wasThere:
		e.state |= flagBefore
	}
	flags := uint64(flagLive)
	if o.part {
		flags |= flagPartial
	}
	e.set(t.number, flags)
	return nil
}

// gone notes that the row with a key is no more; taken says that another one took over values of it.
func (f *Folder) gone(t *Table, h hash, taken bool) error {
	if !f.mine(h) {
		return nil
	}
	e, known := f.entry(t, h)
	switch {
	case e == nil:
		return nil
	case known && !e.is(flagLive), !known && t.emptyAt > 0:
		return refuse(t, "a delete, or a change of the key, of a row that is not there")
	case !known:
		e.state |= flagBefore
	}
	e.set(t.number, 0)
	if taken {
		e.state |= flagPinned
	}
	return nil
}

// entry returns the entry of a key, and whether it was known. Nil: making room for it ended the pass's
// interest in it.
func (f *Folder) entry(t *Table, h hash) (e *entry, known bool) {
	if e = t.keys.find(h); e != nil {
		return e, true
	}
	if f.room(t); !f.mine(h) {
		return nil, false
	}
	return t.keys.insert(h), false
}

// empty notes a TRUNCATE of a table.
func (f *Folder) empty(t *Table) {
	t.number++
	if f.pass == 0 {
		t.counts.Truncated++
		t.live, t.emptied = 0, true
	}
	t.emptyAt, t.keys = t.number, keys{}
}
