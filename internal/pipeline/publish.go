package pipeline

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"tidemark/catalog"
	"tidemark/internal/fault"
	"tidemark/objectstore"
	"tidemark/segment"
)

// uploadsInFlight is how many parts travel to the store at once.
const uploadsInFlight = 4

// upload is one part on its way to the store.
type upload struct {
	object catalog.Object
	done   chan struct{} // closed when err is set
	err    error
}

// job is one entry to append, in stream order, once its parts are durable.
type job struct {
	kind    catalog.Kind // segment or watermark
	from    segment.LSN
	to      segment.LSN
	segment *catalog.Segment // without objects
	parts   []*upload
	inexact []catalog.Inexact
}

// publisher makes the stream durable: it uploads parts as they come, appends entries in stream order, and
// acknowledges each only when its entry is in the catalog (invariant 1). One lives as long as a session.
type publisher struct {
	store   objectstore.Store
	catalog *catalog.Log
	history uint32
	epoch   uint64
	ack     func(segment.LSN)
	verify  func(context.Context, segment.LSN) error // sees to it that the catalog says what was withheld before a position
	found   func(reason string)                      // told of a segment's inexact ranges
	buffers *buffers
	metrics *metrics
	log     *slog.Logger

	slots   chan struct{}
	jobs    chan job
	pending atomic.Int64
	durable atomic.Uint64 // end of the newest entry appended
}

// newPublisher completes p, whose dependencies the caller has set.
func newPublisher(p *publisher) *publisher {
	p.slots = make(chan struct{}, uploadsInFlight)
	p.jobs = make(chan job, 256)
	return p
}

// partKey names a part of a segment. The epoch makes the name unique to one START of the stream: what a
// killed archiver left behind is never in the way of its successor's other bytes.
func partKey(history uint32, start segment.LSN, epoch uint64, part int) string {
	return fmt.Sprintf("segments/%d/%s-%08X.%04d", history, start.Hex(), epoch, part)
}

// upload starts sending a part; its buffer goes back to the pool when it is stored. It waits while too
// many are in flight.
func (p *publisher) upload(ctx context.Context, start segment.LSN, part segment.Part) (*upload, error) {
	u := &upload{done: make(chan struct{}), object: catalog.Object{
		Key: partKey(p.history, start, p.epoch, part.Number), Size: int64(len(part.Data)), SHA256: hex.EncodeToString(part.SHA256[:]),
	}}
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	go func() {
		defer close(u.done)
		defer func() { <-p.slots; p.buffers.put(part.Data) }()
		u.err = p.persist(ctx, "upload", func() error { return p.putOwn(ctx, u.object.Key, part.Data) })
		if u.err == nil {
			p.metrics.storedBytes.Add(float64(u.object.Size))
		}
	}()
	return u, nil
}

// putOwn stores data under key; finding exactly data there already is success.
func (p *publisher) putOwn(ctx context.Context, key string, data []byte) error {
	err := p.store.Put(ctx, key, data)
	if !errors.Is(err, objectstore.ErrExists) {
		return err
	}
	stored, getErr := objectstore.GetAll(ctx, p.store, key)
	if getErr != nil {
		return getErr
	}
	if bytes.Equal(stored, data) {
		return nil
	}
	return fault.New(fault.Conflict, "look for a second archiver writing to this archive", "%s already holds other bytes", key)
}

// persist repeats f while the store can't be reached, until ctx ends: the stream waits for the store, it
// never steps over what the store did not take. The store's own retries pace it; the pause here only
// keeps a store that refuses at once from being hammered.
func (p *publisher) persist(ctx context.Context, what string, f func() error) error {
	for pause := 200 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		err := f()
		if err == nil || ctx.Err() != nil {
			return err
		}
		p.metrics.errors.WithLabelValues(what).Inc()
		if fault.CodeOf(err) != fault.Unreachable {
			return err
		}
		p.log.Warn("store can't be reached, trying again", "during", what, "err", err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// enqueue hands a job on. It waits only if very many are pending.
func (p *publisher) enqueue(ctx context.Context, j job) error {
	p.pending.Add(1)
	select {
	case p.jobs <- j:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// run publishes jobs until jobs is closed, or one fails.
func (p *publisher) run(ctx context.Context) error {
	for j := range p.jobs {
		if err := p.publish(ctx, j); err != nil {
			return err
		}
		p.pending.Add(-1)
	}
	return nil
}

// confirm acknowledges what an earlier session made durable, once this one's server has been found to agree.
func (p *publisher) confirm(end segment.LSN) {
	p.ack(end)
	if p.durable.CompareAndSwap(0, uint64(end)) {
		p.log.Debug("the server agrees with what is archived", "to", end)
	}
}

func (p *publisher) publish(ctx context.Context, j job) error {
	for _, u := range j.parts {
		select {
		case <-u.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if u.err != nil {
			return u.err
		}
		j.segment.Objects = append(j.segment.Objects, u.object)
		j.segment.StoredBytes += u.object.Size
	}
	err := p.persist(ctx, "append", func() error {
		if err := p.verify(ctx, j.to); err != nil {
			return err
		}
		_, err := p.catalog.Append(ctx, func(v *catalog.View) (catalog.Entry, error) { return p.entry(v, j), nil })
		return err
	})
	if err != nil {
		return err
	}
	p.durable.Store(uint64(j.to))
	p.ack(j.to)
	p.account(j)
	if len(j.inexact) > 0 {
		p.log.Warn("a schema change can't be replayed exactly", "lsn", j.inexact[0].From, "reason", j.inexact[0].Reason, "more", len(j.inexact)-1)
		p.found(j.inexact[0].Reason)
	}
	return nil
}

// entry fills the catalog entry for a job against the newest view.
func (p *publisher) entry(v *catalog.View, j job) catalog.Entry {
	running := v.RunningMax(p.history)
	e := catalog.Entry{Kind: j.kind, Epoch: p.epoch, History: p.history, From: j.from, To: j.to}
	if j.kind == catalog.KindWatermark {
		e.Watermark = &catalog.Watermark{RunningMax: running}
		return e
	}
	s := *j.segment
	s.RunningMax = max(running, s.MaxCommitTime)
	e.Segment, e.Inexact = &s, j.inexact
	return e
}

func (p *publisher) account(j job) {
	p.metrics.entries.WithLabelValues(string(j.kind)).Inc()
	p.metrics.archivedLSN.Store(uint64(j.to))
	p.metrics.pending.archived(j.to)
	if s := j.segment; s != nil {
		p.metrics.transactions.Add(float64(s.Transactions))
		p.metrics.rows.Add(float64(s.Inserts + s.Updates + s.Deletes))
		p.metrics.rawBytes.Add(float64(s.RawBytes))
		p.log.Info("archived", "from", j.from, "to", j.to, "transactions", s.Transactions,
			"rows", s.Inserts+s.Updates+s.Deletes, "raw", s.RawBytes, "stored", s.StoredBytes)
		return
	}
	p.log.Debug("archived watermark", "from", j.from, "to", j.to)
}
