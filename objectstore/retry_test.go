package objectstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"tidemark/objectstore"
	"tidemark/objectstore/faulty"
)

// retrying returns a store in memory behind faults behind Retry, and what Retry told.
func retrying(opts objectstore.RetryOptions) (objectstore.Store, *faulty.Store, *[]objectstore.RetryEvent) {
	var events []objectstore.RetryEvent
	opts.Notify = func(e objectstore.RetryEvent) { events = append(events, e) }
	f := faulty.New(objectstore.NewMem())
	return objectstore.Retry(f, opts), f, &events
}

func TestRetryPut(t *testing.T) {
	for name, when := range map[string]faulty.When{"before": faulty.Before, "after": faulty.After} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, f, events := retrying(objectstore.RetryOptions{})
				f.FailPut(1, when)
				f.FailPut(2, when)
				require.NoError(t, s.Put(t.Context(), "k", []byte("ours")))
				require.Len(t, *events, 2)
				require.Equal(t, "put", (*events)[0].Op)
				require.Equal(t, "k", (*events)[0].Key)
				require.Equal(t, 2, (*events)[1].Attempt)
				require.ErrorIs(t, (*events)[0].Err, objectstore.ErrUnavailable)
				got, err := objectstore.GetAll(t.Context(), s, "k")
				require.NoError(t, err)
				require.Equal(t, "ours", string(got))
			})
		})
	}
}

// A lost answer followed by "exists" is success only if the bytes are ours.
func TestRetryPutLosesToOther(t *testing.T) {
	for name, other := range map[string]string{"other": "them", "shorter": "our", "longer": "ours!", "empty": ""} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, f, _ := retrying(objectstore.RetryOptions{})
				f.FailPut(1, faulty.Before)
				raced := false
				f.OnPut(func(key string) error {
					if raced {
						return nil
					}
					raced = true
					return f.Put(t.Context(), key, []byte(other)) // takes the second place in line
				})
				err := s.Put(t.Context(), "k", []byte("ours"))
				require.ErrorIs(t, err, objectstore.ErrExists)
				got, err := objectstore.GetAll(t.Context(), s, "k")
				require.NoError(t, err)
				require.Equal(t, other, string(got))
			})
		})
	}
}

// Without an attempt of unknown outcome, equal bytes are still somebody else's.
func TestRetryPutExistsAtOnce(t *testing.T) {
	s, f, events := retrying(objectstore.RetryOptions{})
	require.NoError(t, f.Put(t.Context(), "k", []byte("same")))
	require.ErrorIs(t, s.Put(t.Context(), "k", []byte("same")), objectstore.ErrExists)
	require.Empty(t, *events)
}

func TestRetryOnlyUnavailable(t *testing.T) {
	for _, kind := range []error{
		objectstore.ErrDenied, objectstore.ErrMismatch, objectstore.ErrUnsupported, objectstore.ErrInvalidKey, errors.New("odd"),
	} {
		s, f, events := retrying(objectstore.RetryOptions{})
		f.OnPut(func(string) error { return fmt.Errorf("put: %w", kind) })
		require.ErrorIs(t, s.Put(t.Context(), "k", nil), kind)
		require.Empty(t, *events)
		require.Equal(t, 1, f.Requests()["put"])
	}
}

func TestRetryGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, f, events := retrying(objectstore.RetryOptions{MaxElapsed: time.Minute})
		f.Cut()
		began := time.Now()
		require.ErrorIs(t, s.Put(t.Context(), "k", nil), objectstore.ErrUnavailable)
		require.LessOrEqual(t, time.Since(began), time.Minute)
		require.Greater(t, time.Since(began), 10*time.Second)
		require.Greater(t, len(*events), 5)
		_, err := s.Stat(t.Context(), "k")
		require.ErrorIs(t, err, objectstore.ErrUnavailable)
		_, err = s.Get(t.Context(), "k", 0, -1)
		require.ErrorIs(t, err, objectstore.ErrUnavailable)
		require.ErrorIs(t, s.Delete(t.Context(), "k"), objectstore.ErrUnavailable)
		for _, err := range s.List(t.Context(), "", "") {
			require.ErrorIs(t, err, objectstore.ErrUnavailable)
		}
	})
}

func TestRetryStopsWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, f, _ := retrying(objectstore.RetryOptions{MaxElapsed: -1})
		f.Cut()
		ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
		defer cancel()
		require.ErrorIs(t, s.Put(ctx, "k", nil), context.DeadlineExceeded)
	})
}

func TestRetryOutlastsOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, f, _ := retrying(objectstore.RetryOptions{})
		f.Cut()
		time.AfterFunc(5*time.Minute, f.Restore)
		require.NoError(t, s.Put(t.Context(), "k", []byte("v")))
		f.Hang()
		time.AfterFunc(5*time.Minute, f.Restore)
		got, err := objectstore.GetAll(t.Context(), s, "k")
		require.NoError(t, err)
		require.Equal(t, "v", string(got))
	})
}

// A body that breaks off, even several times, goes on where it was.
func TestRetryGetResumes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, f, events := retrying(objectstore.RetryOptions{})
		data := make([]byte, 1<<20)
		for i := range data {
			data[i] = byte(i * 7 >> 3)
		}
		require.NoError(t, s.Put(t.Context(), "k", data))
		for _, span := range [][2]int64{{0, -1}, {1000, 500_000}, {1 << 19, -1}} {
			f.BreakGet(0)
			r, err := s.Get(t.Context(), "k", span[0], span[1])
			require.NoError(t, err)
			var got bytes.Buffer
			buf := make([]byte, 50_000)
			for err == nil {
				f.BreakGet(70_001) // every body opened from now on breaks off there
				var n int
				n, err = r.Read(buf)
				got.Write(buf[:n])
			}
			require.Equal(t, io.EOF, err)
			require.NoError(t, r.Close())
			want := data[span[0]:]
			if span[1] >= 0 {
				want = want[:span[1]]
			}
			require.True(t, bytes.Equal(want, got.Bytes()))
		}
		require.NotEmpty(t, *events)
	})
}

func TestRetryGetGivesUpInTheMiddle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, f, _ := retrying(objectstore.RetryOptions{MaxElapsed: time.Minute})
		require.NoError(t, s.Put(t.Context(), "k", make([]byte, 1000)))
		r, err := s.Get(t.Context(), "k", 0, -1)
		require.NoError(t, err)
		_, err = io.ReadFull(r, make([]byte, 10))
		require.NoError(t, err)
		f.Cut()
		for range 2 {
			_, err = io.ReadAll(r)
			require.ErrorIs(t, err, objectstore.ErrUnavailable)
		}
		require.NoError(t, r.Close())
	})
}

func TestRetryListGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, f, _ := retrying(objectstore.RetryOptions{})
		var want []string
		for i := range 50 {
			want = append(want, fmt.Sprintf("k/%02d", i))
			require.NoError(t, s.Put(t.Context(), want[i], nil))
		}
		sequence := s.List(t.Context(), "k/", "")
		for range 2 {
			var got []string
			for info, err := range sequence {
				require.NoError(t, err)
				got = append(got, info.Key)
				if len(got)%7 == 0 {
					f.Cut()
					time.AfterFunc(10*time.Second, f.Restore)
				}
			}
			require.Equal(t, want, got)
			f.Restore()
		}
	})
}

// A store that first says "exists" and then has nothing is asked again, not believed.
func TestRetryPutContradicted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, f, _ := retrying(objectstore.RetryOptions{})
		f.FailPut(1, faulty.Before)
		puts := 0
		f.OnPut(func(string) error {
			if puts++; puts == 2 {
				return objectstore.ErrExists
			}
			return nil
		})
		require.NoError(t, s.Put(t.Context(), "k", []byte("v")))
		require.Equal(t, 3, puts)
	})
}
