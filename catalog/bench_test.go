package catalog

import (
	"testing"

	"tidemark/objectstore"
)

func BenchmarkAppend(b *testing.B) {
	l := begun(b, objectstore.NewMem())
	b.ReportAllocs()
	for b.Loop() {
		put(b, l, nextSegment(l.View()))
	}
}
