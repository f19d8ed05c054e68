package follow

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"tidemark/catalog"
	"tidemark/pitr"
	"tidemark/segment"
)

// Parts of segments, of about 8 MiB at most, that are held at once: one being decoded, the others read ahead.
const heldParts = 5

// item is an entry of the stream, one of its parts, or the error that ended reading.
type item struct {
	entry *catalog.Entry
	part  *part
	err   error
}

type part struct {
	object catalog.Object
	ready  chan struct{} // closed when data or err is set
	data   []byte
	err    error
}

// source reads entries and the parts of their segments ahead.
type source struct {
	items  <-chan item
	slots  chan struct{}
	cancel context.CancelFunc
	under  sync.WaitGroup
	taken  bool // a slot is with the part given last
}

// readAhead begins to read the stream of a history from a position on. The caller closes it.
func (f *follower) readAhead(ctx context.Context, a *pitr.Archive, history uint32, from segment.LSN) *source {
	ctx, cancel := context.WithCancel(ctx)
	items := make(chan item, 2*heldParts)
	s := &source{items: items, slots: make(chan struct{}, heldParts), cancel: cancel}
	send := func(it item) bool {
		select {
		case items <- it:
			return true
		case <-ctx.Done():
			return false
		}
	}
	s.under.Go(func() {
		defer close(items)
		for e, err := range a.View().Entries(ctx, catalog.Range{History: history, From: from}) {
			if err != nil {
				send(item{err: err})
				return
			}
			if !send(item{entry: &e}) || !f.readParts(ctx, a, e, s, send) {
				return
			}
		}
	})
	return s
}

// readParts begins to read an entry's parts and sends them in order, each once there is room for it.
func (f *follower) readParts(ctx context.Context, a *pitr.Archive, e catalog.Entry, s *source, send func(item) bool) bool {
	for _, o := range pitr.Parts(e) {
		select {
		case s.slots <- struct{}{}:
		case <-ctx.Done():
			return false
		}
		p := &part{object: o, ready: make(chan struct{})}
		s.under.Go(func() {
			defer close(p.ready)
			p.data, p.err = f.object(ctx, a, p.object)
		})
		if !send(item{part: p}) {
			return false
		}
	}
	return true
}

// object reads an object. One that is missing may be on its way, in a copy of an archive.
func (f *follower) object(ctx context.Context, a *pitr.Archive, o catalog.Object) ([]byte, error) {
	end := time.Now().Add(f.o.Arrival)
	for told := false; ; told = true {
		data, err := a.Object(ctx, o)
		if !errors.Is(err, pitr.ErrMissing) || !time.Now().Before(end) {
			return data, err
		}
		if !told {
			f.o.Log.Warn("the catalog names an object that is not there: waiting for it", "key", o.Key, "at most", f.o.Arrival)
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// next gives the next entry, skipping the parts of the one before; ok is false at the end.
func (s *source) next() (e *catalog.Entry, ok bool, err error) {
	for it := range s.items {
		switch {
		case it.err != nil:
			return nil, false, it.err
		case it.entry != nil:
			s.release()
			return it.entry, true, nil
		}
		<-it.part.ready
		s.release()
		s.taken = true
	}
	s.release()
	return nil, false, nil
}

// parts gives the parts of the entry that next gave to a segment.Reader.
func (s *source) parts(e *catalog.Entry) func() (segment.PartFile, error) {
	left := len(e.Segment.Objects)
	return func() (segment.PartFile, error) {
		s.release()
		if left == 0 {
			return segment.PartFile{}, io.EOF
		}
		left--
		it, ok := <-s.items
		switch {
		case !ok:
			return segment.PartFile{}, context.Canceled
		case it.err != nil:
			return segment.PartFile{}, it.err
		case it.part == nil:
			return segment.PartFile{}, errors.New("parts are out of step")
		}
		s.taken = true
		<-it.part.ready
		if it.part.err != nil {
			return segment.PartFile{}, it.part.err
		}
		return segment.PartFile{R: bytes.NewReader(it.part.data), Size: int64(len(it.part.data)), Name: it.part.object.Key}, nil
	}
}

func (s *source) release() {
	if s.taken {
		s.taken = false
		<-s.slots
	}
}

// close ends reading and waits for it.
func (s *source) close() {
	s.cancel()
	for range s.items {
		// A sender may be waiting; its context has ended.
	}
	s.under.Wait()
}
