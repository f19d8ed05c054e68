package basesnapshot

import "sync"

// Progress is how far a snapshot has come.
type Progress struct {
	Phase       string // waiting, schema, copying or finishing
	TablesDone  int64
	TablesTotal int64
	RowsDone    int64
	RowsTotal   int64 // estimate, from the planner's statistics
	BytesDone   int64 // of the source's disk, estimated from the rows' text
	BytesTotal  int64 // of the tables on disk, TOAST included
	Raw         int64 // bytes of COPY text
	Stored      int64 // bytes in the store
}

// progress keeps count and tells. The callback is called by one goroutine at a time.
type progress struct {
	mu   sync.Mutex
	now  Progress
	tell func(Progress)
}

func (p *progress) update(f func(*Progress)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(&p.now)
	if p.tell != nil {
		p.tell(p.now)
	}
}

// begin sets the totals.
func (p *progress) begin(tables []*source) {
	p.update(func(n *Progress) {
		*n = Progress{Phase: "copying", TablesTotal: int64(len(tables))}
		for _, t := range tables {
			n.RowsTotal += t.estimate
			n.BytesTotal += t.bytes
		}
	})
}

func (p *progress) phase(name string) { p.update(func(n *Progress) { n.Phase = name }) }
func (p *progress) tableDone() {
	p.update(func(n *Progress) {
		n.TablesDone++
		if n.TablesDone == n.TablesTotal {
			n.BytesDone = n.BytesTotal
		}
	})
}

func (p *progress) stored(o object) {
	p.update(func(n *Progress) {
		n.RowsDone += o.rows
		n.Raw += o.raw
		n.Stored += int64(len(o.data))
		n.BytesDone = min(n.Raw, n.BytesTotal)
	})
}
