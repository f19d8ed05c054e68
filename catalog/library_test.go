package catalog

import (
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/objectstore"
)

// TestLiveLogReadsWholeBooks: a log that was open while a book closed keeps the book's last chapter, which ends with
// the same line as the book, and takes it for no more than it is.
func TestLiveLogReadsWholeBooks(t *testing.T) {
	store := objectstore.NewMem()
	l, err := begun(t, store).Extend(t.Context(), bookSize-tailSize, func(v *View) (Entry, error) { return nextSegment(v), nil })
	require.NoError(t, err)
	grow(t, l, bookSize+10)
	seq := uint64(0)
	for e, err := range l.View().All(t.Context()) {
		require.NoError(t, err)
		seq++
		require.Equal(t, seq, e.Seq)
	}
	require.EqualValues(t, bookSize+10, seq)
}
