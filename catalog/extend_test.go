package catalog

import (
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/objectstore"
)

// TestExtend: an archive that was extended says what one says that the same entries were appended to, and both go on alike.
func TestExtend(t *testing.T) {
	const seq = bookSize + 2*tailSize
	other := objectstore.NewMem()
	appended := begun(t, other)
	grow(t, appended, seq)
	store := objectstore.NewMem()
	extended, err := begun(t, store).Extend(t.Context(), seq, func(v *View) (Entry, error) { return nextSegment(v), nil })
	require.NoError(t, err)
	for range 2 {
		require.Equal(t, appended.View().Head(), extended.View().Head())
		require.True(t, dumpAll(t, open(t, other).View()) == dumpAll(t, open(t, store).View()), "they say the same")
		grow(t, appended, seq+chapterSize)
		grow(t, extended, seq+chapterSize) // over the end of the chapter that was open
	}
	_, err = extended.Extend(t.Context(), 2*seq, nil)
	require.ErrorContains(t, err, "can't be extended")
}
