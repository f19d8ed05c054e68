package pitr

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"

	"tidemark/catalog"
	"tidemark/segment"
)

// fetched is a part that is being read, or was.
type fetched struct {
	entry  int // index into run.entries
	object catalog.Object
	data   chan []byte // gets the bytes, or nothing after err
	err    error       // set before data is closed
}

// fetchParts reads the parts of some segments ahead, at most so many at a time, and gives them in order.
// Each was compared with the catalog's SHA-256 before it is given. The channel is closed at the end, or
// early when ctx ends; wait returns once nothing is being read any more.
func (r *run) fetchParts(ctx context.Context, entries []int, ahead int) (parts <-chan *fetched, wait func()) {
	var under sync.WaitGroup
	// One part is with the reader, one is taken out of the queue and waits to be sent.
	out := make(chan *fetched, max(0, ahead-1))
	under.Go(func() {
		defer close(out)
		for _, i := range entries {
			for _, o := range r.entries[i].Segment.Objects {
				f := &fetched{entry: i, object: o, data: make(chan []byte, 1)}
				under.Go(func() {
					defer close(f.data)
					data, err := r.o.Archive.getVerified(ctx, f.object)
					if err != nil {
						f.err = err
						return
					}
					f.data <- data
				})
				select {
				case out <- f:
				case <-ctx.Done():
					return
				}
			}
		}
	})
	return out, under.Wait
}

// segmentParts gives the parts of one entry to a segment.Reader.
type segmentParts struct {
	run   *run
	parts <-chan *fetched
	entry int
	left  int
	held  []segment.PartFile // read already, to be given first
}

// maxHeld bounds the parts of a segment that are held to be read twice.
const maxHeld = 48 << 20

// hold reads all parts and holds them, if they are small enough together.
func (s *segmentParts) hold() (bool, error) {
	var size int64
	for _, o := range s.run.entries[s.entry].Segment.Objects {
		size += o.Size
	}
	if size > maxHeld {
		return false, nil
	}
	var held []segment.PartFile
	for s.left > 0 {
		p, err := s.next()
		if err != nil {
			return false, err
		}
		held = append(held, p)
	}
	s.held = held
	return true, nil
}

// peek gives the held parts without taking them.
func (s *segmentParts) peek() func() (segment.PartFile, error) {
	held := s.held
	return func() (segment.PartFile, error) {
		if len(held) == 0 {
			return segment.PartFile{}, io.EOF
		}
		p := held[0]
		held = held[1:]
		return p, nil
	}
}

func (s *segmentParts) next() (segment.PartFile, error) {
	if len(s.held) > 0 {
		p := s.held[0]
		s.held = s.held[1:]
		return p, nil
	}
	if s.left == 0 {
		return segment.PartFile{}, io.EOF
	}
	s.left--
	f, ok := <-s.parts
	if !ok {
		return segment.PartFile{}, context.Canceled
	}
	data, ok := <-f.data
	if !ok {
		return segment.PartFile{}, f.err
	}
	if f.entry != s.entry {
		return segment.PartFile{}, errors.New("parts are out of step")
	}
	s.run.advance(f.object.Size)
	return segment.PartFile{R: bytes.NewReader(data), Size: int64(len(data)), Name: f.object.Key}, nil
}

// drain takes the rest of a segment's parts, so that the next segment's come first in the queue.
func (s *segmentParts) drain() error {
	for {
		_, err := s.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
