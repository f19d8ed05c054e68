package catalog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"tidemark/internal/fault"
	"tidemark/objectstore"
	"tidemark/objectstore/faulty"
	"tidemark/segment"
)

func TestConcurrentAppenders(t *testing.T) {
	file, err := objectstore.Open(t.Context(), filepath.Join(t.TempDir(), "archive"))
	require.NoError(t, err)
	for name, store := range map[string]objectstore.Store{"mem": objectstore.NewMem(), "file": file} {
		t.Run(name, func(t *testing.T) {
			const appenders, each = 8, 50
			begun(t, store)
			var g errgroup.Group
			for a := range appenders {
				g.Go(func() error {
					l, err := Open(t.Context(), store)
					for i := 0; i < each && err == nil; i++ {
						_, err = l.Append(t.Context(), func(v *View) (Entry, error) {
							if a == 0 { // the stream's writer is among them
								return nextSegment(v), nil
							}
							return hold(fmt.Sprintf("%d-%d", a, i)), nil
						})
					}
					return errors.Join(err, l.Lag())
				})
			}
			require.NoError(t, g.Wait())
			v := open(t, store).View()
			require.EqualValues(t, 3+appenders*each, v.Head().Seq)
			require.Len(t, v.Holds(), (appenders-1)*each)
			require.Equal(t, segment.LSN(0x1000+each*0x100), v.End(1))
			require.Empty(t, verified(t, store))
		})
	}
}

// TestLostAnswers: every put may land with its answer lost; every entry is there once.
func TestLostAnswers(t *testing.T) {
	store := faulty.New(objectstore.NewMem())
	l := begun(t, store)
	for i := range 70 {
		e := nextSegment(l.View())
		store.FailPut(1, faulty.After)
		_, err := l.Append(t.Context(), func(*View) (Entry, error) { return e, nil })
		require.ErrorIs(t, err, objectstore.ErrUnavailable)
		require.Equal(t, fault.Unreachable, fault.CodeOf(err))
		if i%2 == 0 {
			require.NoError(t, l.Refresh(t.Context())) // it shows the entry before the caller knows that it landed
		}
		calls := 0
		stored, err := l.Append(t.Context(), func(*View) (Entry, error) { calls++; return e, nil })
		require.NoError(t, err)
		require.Equal(t, e.From, stored.From)
		require.Equal(t, 1, calls)
		require.EqualValues(t, 4+i, l.View().Head().Seq)
	}
	require.NoError(t, l.Lag())
	require.Empty(t, verified(t, store))
}

// TestLostAnswerThenAnother: the entry landed unseen, and another appender went on after it.
func TestLostAnswerThenAnother(t *testing.T) {
	store := faulty.New(objectstore.NewMem())
	l := begun(t, store)
	e := nextSegment(l.View())
	store.FailPut(1, faulty.After)
	_, err := l.Append(t.Context(), func(*View) (Entry, error) { return e, nil })
	require.Error(t, err)
	put(t, open(t, store), hold("beside"))
	for _, refreshed := range []bool{false, true} {
		if refreshed {
			require.NoError(t, l.Refresh(t.Context()))
			_, err := l.Append(t.Context(), func(*View) (Entry, error) { return e, nil })
			require.ErrorContains(t, err, "does not tile", "the answer was given already")
			continue
		}
		stored := put(t, l, e)
		require.EqualValues(t, 4, stored.Seq)
	}
	require.EqualValues(t, 5, l.View().Head().Seq)
}

// TestLostAnswerThenAnotherOfOurOwn: the entry landed unseen, and the same process appended something else before it asked again.
func TestLostAnswerThenAnotherOfOurOwn(t *testing.T) {
	for name, between := range map[string]func(*faulty.Store, *Log){
		"sure": func(_ *faulty.Store, l *Log) {
			put(t, l, hold("a"))
			put(t, l, snapshotAt(1, 0x1000, "s2", 0))
		},
		"as unsure": func(store *faulty.Store, l *Log) {
			for _, when := range []faulty.When{faulty.Before, faulty.After} {
				store.FailPut(1, when)
				_, err := l.Append(t.Context(), func(*View) (Entry, error) { return snapshotAt(1, 0x1000, "s2", 0), nil })
				require.Error(t, err)
			}
			put(t, l, snapshotAt(1, 0x1000, "s2", 0))
			put(t, l, hold("a"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			store := faulty.New(objectstore.NewMem())
			l := begun(t, store)
			for i, e := range []Entry{nextSegment(l.View()), claim()} {
				store.FailPut(1, faulty.After)
				_, err := l.Append(t.Context(), func(*View) (Entry, error) { return e, nil })
				require.Error(t, err)
				if i == 0 {
					between(store, l)
				} else {
					put(t, l, hold("b"))
				}
				stored := put(t, l, e)
				require.EqualValues(t, 4+3*i, stored.Seq)
			}
			require.EqualValues(t, 8, l.View().Head().Seq)
			require.EqualValues(t, 2, l.View().Epoch().Epoch)
			require.Empty(t, l.unsure)
			require.Empty(t, verified(t, store))
		})
	}
}

func TestPutThatDidNotLand(t *testing.T) {
	store := faulty.New(objectstore.NewMem())
	l := begun(t, store)
	e := nextSegment(l.View())
	store.FailPut(1, faulty.Before)
	_, err := l.Append(t.Context(), func(*View) (Entry, error) { return e, nil })
	require.ErrorIs(t, err, objectstore.ErrUnavailable)
	put(t, open(t, store), hold("faster"))
	stored := put(t, l, e)
	require.EqualValues(t, 5, stored.Seq)
	require.Empty(t, verified(t, store))
}

func TestStoreDown(t *testing.T) {
	store := faulty.New(objectstore.NewMem())
	l := begun(t, store)
	store.Cut()
	_, err := l.Append(t.Context(), func(v *View) (Entry, error) { return nextSegment(v), nil })
	require.Equal(t, fault.Unreachable, fault.CodeOf(err))
	require.Equal(t, fault.Unreachable, fault.CodeOf(l.Refresh(t.Context())))
	require.Equal(t, fault.Unreachable, fault.CodeOf(second(Open(t.Context(), store))))
	require.EqualValues(t, 3, l.View().Head().Seq)
	store.Restore()
	grow(t, l, 10)

	store.Hang()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 3 { // one holds the log, the others wait for it: all leave
		wg.Go(func() {
			_, err := l.Append(ctx, func(v *View) (Entry, error) { return nextSegment(v), nil })
			require.ErrorIs(t, err, context.Canceled)
		})
	}
	cancel()
	wg.Wait()
	store.Restore()
	grow(t, l, 20)
	require.Empty(t, verified(t, store))
}

// TestRootFailure: an entry stands without its root, which the next appender writes, here or elsewhere.
func TestRootFailure(t *testing.T) {
	for _, elsewhere := range []bool{false, true} {
		store := faulty.New(objectstore.NewMem())
		var told []error
		l, err := Create(t.Context(), store, testIdentity(), WithClock(stepClock()), WithRootFailure(func(err error) { told = append(told, err) }))
		require.NoError(t, err)
		put(t, l, claim())
		put(t, l, history(1, 0x1000))
		grow(t, l, 4095)
		require.NoError(t, l.Lag())
		store.OnPut(func(key string) error {
			if key == bookKey(0) || key == rootKey(4160) {
				return objectstore.ErrUnavailable
			}
			return nil
		})
		grow(t, l, 4096)
		require.ErrorIs(t, l.Lag(), objectstore.ErrUnavailable)
		require.Len(t, told, 1)
		grow(t, l, 4170)
		require.Equal(t, dumpAll(t, l.View()), dumpAll(t, open(t, store).View()), "readers cope")
		store.OnPut(nil)
		if elsewhere {
			l = open(t, store)
		}
		grow(t, l, 4171)
		require.NoError(t, l.Lag())
		require.Empty(t, verified(t, store))
	}
}

// TestKilledBeforeTheRoot: the appender died between entry and root; whoever appends next mends it.
func TestKilledBeforeTheRoot(t *testing.T) {
	inner := objectstore.NewMem()
	store := faulty.New(inner)
	l := begun(t, store)
	grow(t, l, 511)
	store.OnPut(func(key string) error {
		if key != logKey(512) {
			return context.Canceled
		}
		return nil
	})
	grow(t, l, 512)
	found := verified(t, inner)
	require.Len(t, found, 1)
	require.Equal(t, rootKey(512), found[0].Object)
	require.True(t, found[0].Derived)
	put(t, open(t, inner), claim())
	require.Empty(t, verified(t, inner))
}

// TestRequestsOfAppending: one put an entry, and one a root.
func TestRequestsOfAppending(t *testing.T) {
	store := faulty.New(objectstore.NewMem())
	l := begun(t, store)
	grow(t, l, 4032)
	_ = store.Requests()
	grow(t, l, 4095)
	require.Equal(t, map[string]int{"put": 63}, store.Requests())
	grow(t, l, 4096)
	require.Equal(t, map[string]int{"put": 3}, store.Requests(), "entry, book, root")

	put(t, open(t, store), hold("from elsewhere"))
	_ = store.Requests()
	grow(t, l, 4098)
	require.Equal(t, map[string]int{"put": 2, "get": 1, "list": 1, "stat": 1}, store.Requests(), "lost the race; the other wrote the root")
}

// TestRootThatIsThere: a root that says the same in other bytes is right, one that does not is told.
func TestRootThatIsThere(t *testing.T) {
	store := objectstore.NewMem()
	l := begun(t, store)
	grow(t, l, 64)
	right, err := rootText(testID, l.leaf)
	require.NoError(t, err)
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithSingleSegment(true))
	require.NoError(t, err)
	for name, c := range map[string]struct {
		text []byte
		want fault.Code
	}{"right": {right, fault.OK}, "wrong": {bytes.ToUpper(right), fault.Damage}} {
		store := objectstore.NewMem()
		l := begun(t, store)
		grow(t, l, 63)
		data := appendSum(enc.EncodeAll(c.text, magicOf(magicRoot)))
		require.NotEqual(t, sealed(t, magicRoot, c.text), data)
		require.NoError(t, store.Put(t.Context(), rootKey(64), data))
		grow(t, l, 64)
		require.Equal(t, c.want, fault.CodeOf(l.Lag()), "%s: %v", name, l.Lag())
		require.Equal(t, c.want == fault.OK, len(verified(t, store)) == 0)
	}
}

func TestFencing(t *testing.T) {
	store := objectstore.NewMem()
	l := begun(t, store)
	grow(t, l, 10)
	other := open(t, store)
	second := put(t, other, claim())
	require.EqualValues(t, 2, second.Epoch)

	e := segmentAt(1, 1, l.View().End(1), l.View().End(1)+0x100, 100, 110, 900)
	for _, e := range []Entry{e, watermark(1, 1, e.From, e.To), gap(1, 1, e.From, e.To), stop(1), {Kind: KindHistory, Epoch: 1, History: 2, Begins: &History{}}} {
		_, err := l.Append(t.Context(), func(*View) (Entry, error) { return e, nil })
		require.Equal(t, fault.Conflict, fault.CodeOf(err), "%s: %v", e.Kind, err)
		require.ErrorContains(t, err, "another archiver has taken over")
	}
	put(t, l, hold("anyone may"))

	grow(t, other, 15)
	put(t, other, stop(2))
	_, err := other.Append(t.Context(), func(v *View) (Entry, error) { return nextSegment(v), nil })
	require.Equal(t, fault.Conflict, fault.CodeOf(err), "its own epoch has ended: %v", err)
	require.True(t, open(t, store).View().Epoch().Writer.Stopped)
	require.Empty(t, verified(t, store))
}

func TestRulesOfAppending(t *testing.T) {
	l := begun(t, objectstore.NewMem())
	grow(t, l, 6)
	end := l.View().End(1)
	for name, e := range map[string]Entry{
		"hole":                segmentAt(1, 1, end+1, end+9, 40, 50, 1),
		"overlap":             segmentAt(1, 1, end-1, end+9, 40, 50, 1),
		"empty":               watermark(1, 1, end, end),
		"backwards":           watermark(1, 1, end, end-1),
		"no epoch":            watermark(1, 0, end, end+1),
		"unclaimed epoch":     watermark(1, 2, end, end+1),
		"no history":          watermark(0, 1, end, end+1),
		"unknown history":     watermark(2, 1, end, end+1),
		"history skipped":     history(3, 0),
		"history again":       history(1, 0),
		"epoch skipped":       {Kind: KindWriter, Epoch: 3, Writer: &Writer{}},
		"snapshot id twice":   snapshotAt(1, end, "s1", 1),
		"snapshot before":     snapshotAt(1, 0xfff, "s2", 1),
		"snapshot nowhere":    snapshotAt(2, end, "s2", 1),
		"prune ahead":         {Kind: KindPrune, History: 1, Prune: &Prune{Before: end + 1}},
		"no payload":          {Kind: KindSegment, History: 1, Epoch: 1, From: end, To: end + 1},
		"two payloads":        {Kind: KindHold, Hold: &Hold{Name: "x"}, Gap: &Gap{}},
		"unknown kind":        {Kind: "party", Hold: &Hold{Name: "x"}},
		"nameless hold":       hold(""),
		"segment without any": {Kind: KindSegment, History: 1, Epoch: 1, From: end, To: end + 1, Segment: &Segment{}},
	} {
		_, err := l.Append(t.Context(), func(*View) (Entry, error) { return e, nil })
		require.Error(t, err, name)
		require.NotEqual(t, fault.Conflict, fault.CodeOf(err), name)
	}
	refuse := errors.New("makes no sense any more")
	_, err := l.Append(t.Context(), func(*View) (Entry, error) { return Entry{}, refuse })
	require.ErrorIs(t, err, refuse)
	require.EqualValues(t, 6, l.View().Head().Seq)
	grow(t, l, 7)
}

// TestVoidEntries are not for our appenders to write, but a reader knows them.
func TestVoidEntries(t *testing.T) {
	store := objectstore.NewMem()
	l := begun(t, store)
	grow(t, l, 10)
	put(t, l, claim())
	end := l.View().End(1)
	forged := segmentAt(1, 1, end, end+0x100, 500, 600, 4000)
	forged.complete(l.View(), testBegin)
	line, _, err := encodeEntry(forged)
	require.NoError(t, err)
	require.NoError(t, store.Put(t.Context(), logKey(12), encodeLogObject(line, l.carry(12))))
	grow(t, l, 600)
	v := open(t, store).View()
	require.Equal(t, dumpAll(t, l.View()), dumpAll(t, v))
	_, ok, err := v.FindTime(t.Context(), 1, at(9999))
	require.NoError(t, err)
	require.False(t, ok)
	last := segment.LSN(0x1000)
	for e, err := range v.Entries(t.Context(), Range{History: 1}) {
		require.NoError(t, err)
		require.Equal(t, last, e.From, "they tile")
		last = e.To
	}
	require.Equal(t, v.End(1), last)
	n := 0
	for range v.All(t.Context()) {
		n++
	}
	require.Equal(t, 600, n)
	require.Empty(t, verified(t, store))
}

func TestRunningMaxIsFilled(t *testing.T) {
	l := begun(t, objectstore.NewMem())
	put(t, l, segmentAt(1, 1, 0x1000, 0x1100, 1, 50, 1))
	late := put(t, l, segmentAt(1, 1, 0x1100, 0x1200, 2, 20, 1))
	require.Equal(t, at(50), late.Segment.RunningMax)
	require.Equal(t, at(50), put(t, l, watermark(1, 1, 0x1200, 0x1300)).Watermark.RunningMax)
	put(t, l, segmentAt(1, 1, 0x1300, 0x1400, 60, 70, 1))
	// A snapshot that took long: its position is far behind when its entry is appended.
	require.Equal(t, at(50), put(t, l, snapshotAt(1, 0x1280, "s2", 40)).Snapshot.RunningMax)
	require.Equal(t, at(50), l.View().Snapshots()[1].EligibleFrom)
	// One that is ahead of the stream becomes eligible as the stream passes it.
	put(t, l, snapshotAt(1, 0x1500, "s3", 75))
	require.Equal(t, at(75), l.View().Snapshots()[2].EligibleFrom)
	put(t, l, segmentAt(1, 1, 0x1400, 0x1480, 76, 80, 1))
	require.Equal(t, at(80), l.View().Snapshots()[2].EligibleFrom)
	put(t, l, watermark(1, 1, 0x1480, 0x1500))
	put(t, l, segmentAt(1, 1, 0x1500, 0x1600, 90, 99, 1))
	require.Equal(t, at(80), l.View().Snapshots()[2].EligibleFrom)
}
