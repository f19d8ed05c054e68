package follow

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tidemark/segment"
)

// metrics are what a follower exports. Lag is computed when it is read, so that a feed that stands still
// shows a growing one.
type metrics struct {
	transactions prometheus.Counter
	errors       prometheus.Counter
}

func newMetrics(f *follower) *metrics {
	m := &metrics{
		transactions: prometheus.NewCounter(prometheus.CounterOpts{Name: "tidemark_follow_transactions_total", Help: "Transactions applied."}),
		errors:       prometheus.NewCounter(prometheus.CounterOpts{Name: "tidemark_follow_interruptions_total", Help: "Sessions that ended by an error and were tried again."}),
	}
	if f.o.Registerer == nil {
		return m
	}
	f.o.Registerer.MustRegister(m.transactions, m.errors)
	computed := func(name, help string, value func() float64) {
		f.o.Registerer.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
	}
	computed("tidemark_follow_applied_lsn_bytes", "LSN up to which the database has all commits, as a number.", func() float64 { return float64(f.applied.Load()) })
	computed("tidemark_follow_archive_end_lsn_bytes", "LSN up to which the archive was seen to reach, as a number.", func() float64 { return float64(f.seen().end) })
	computed("tidemark_follow_lag_bytes", "WAL archived and not applied.", func() float64 { return max(0, float64(f.seen().end)-float64(f.applied.Load())) })
	computed("tidemark_follow_lag_seconds", "Age of the oldest archived commit that is not applied; 0 when there is none.", func() float64 {
		return f.lag(segment.LSN(f.applied.Load())).Seconds()
	})
	computed("tidemark_follow_silent_seconds", "Time since the feed last worked: since a batch was committed, or the archive was asked and had nothing new.", func() float64 {
		return time.Since(time.Unix(0, f.good.Load())).Seconds()
	})
	return m
}

func (m *metrics) failed() { m.errors.Inc() }

// lag is the age of the oldest archived commit that isn't applied.
func (f *follower) lag(applied segment.LSN) time.Duration {
	oldest := segment.Timestamp(f.oldest.Load())
	if oldest.IsZero() || applied >= f.seen().end {
		return 0
	}
	return max(0, f.o.Now().Sub(oldest.Time()))
}
