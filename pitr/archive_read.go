package pitr

import (
	"context"
	"errors"
	"io"
	"iter"
	"slices"

	"tidemark/catalog"
	"tidemark/internal/fault"
	"tidemark/objectstore"
	"tidemark/segment"
)

// ErrMissing is in the chain of the error for an object that the catalog names and the store does not have.
// In a copy of an archive it may still be on its way.
var ErrMissing = errors.New("the store does not have it")

// View is the catalog as it stood when the Archive was made.
func (a *Archive) View() *catalog.View { return a.view }

// Object reads a whole object and compares it with what the catalog says of it. Errors are faults: Damage,
// with ErrMissing in the chain where the object is not there, or Unreachable.
func (a *Archive) Object(ctx context.Context, o catalog.Object) ([]byte, error) {
	data, err := a.getVerified(ctx, o)
	if err != nil && fault.CodeOf(err) == fault.Damage {
		if _, statErr := a.store.Stat(ctx, o.Key); errors.Is(statErr, objectstore.ErrNotFound) {
			return nil, fault.Wrap(ErrMissing, fault.Damage, verifyHint, "%s is named by the catalog", o.Key)
		}
	}
	return data, err
}

// Index reads the index of a segment entry and checks that it belongs to it. Errors are faults.
func (a *Archive) Index(ctx context.Context, e catalog.Entry) (*segment.Index, error) {
	return a.index(ctx, e, 0)
}

// Segment gives the operations of a segment entry, whose parts next gives in order and then io.EOF. A record is
// valid until the next one is asked for. An error is a fault, and the last thing given.
func (a *Archive) Segment(e catalog.Entry, next func() (segment.PartFile, error)) iter.Seq2[*segment.Record, error] {
	return a.records(e, next, segment.ReaderOptions{})
}

// records is Segment for some of the rows: options say which.
func (a *Archive) records(e catalog.Entry, next func() (segment.PartFile, error), o segment.ReaderOptions) iter.Seq2[*segment.Record, error] {
	o.LargeValue, o.Expect = largeValue, a.identity(e)
	return func(yield func(*segment.Record, error) bool) {
		reader := segment.NewReader(next, o)
		defer reader.Close()
		for {
			rec, err := reader.Next()
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(nil, objectError(err, e.Segment.Objects[0].Key))
				return
			}
			if !yield(rec, nil) {
				return
			}
		}
	}
}

// Parts returns the objects of a segment entry, in order; none for other kinds of entry.
func Parts(e catalog.Entry) []catalog.Object {
	if e.Segment == nil {
		return nil
	}
	return slices.Clone(e.Segment.Objects)
}
