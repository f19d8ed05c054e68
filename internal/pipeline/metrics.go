package pipeline

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tidemark/segment"
)

// metrics are what the archiver exports. Lag is computed when it is read, not when the stream moves, so
// that a stream that stands still shows a growing lag.
type metrics struct {
	errors        *prometheus.CounterVec
	entries       *prometheus.CounterVec
	transactions  prometheus.Counter
	rows          prometheus.Counter
	rawBytes      prometheus.Counter
	storedBytes   prometheus.Counter
	reconnects    prometheus.Counter
	refused       prometheus.Counter
	snapshotTime  prometheus.Gauge
	retainedWAL   prometheus.Gauge
	xminAge       prometheus.Gauge
	archivedLSN   atomic.Uint64
	sourceFlush   atomic.Uint64
	streaming     atomic.Bool
	hasSnapshot   atomic.Bool
	pending       pendingCommits
	segmentOpened atomic.Int64 // Unix nanoseconds, 0: none open
}

func newMetrics(reg prometheus.Registerer, now func() time.Time) *metrics {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
		reg.MustRegister(c)
		return c
	}
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
		reg.MustRegister(g)
		return g
	}
	vec := func(name, help, label string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
		reg.MustRegister(v)
		return v
	}
	m := &metrics{
		errors:       vec("tidemark_errors_total", "Failures, by the part of the archiver they happened in.", "in"),
		entries:      vec("tidemark_catalog_entries_total", "Entries appended to the catalog.", "kind"),
		transactions: counter("tidemark_transactions_total", "Transactions archived."),
		rows:         counter("tidemark_rows_total", "Row operations archived."),
		rawBytes:     counter("tidemark_raw_bytes_total", "Bytes of the logical stream archived, before compression."),
		storedBytes:  counter("tidemark_stored_bytes_total", "Bytes of segments stored."),
		reconnects:   counter("tidemark_reconnects_total", "Replication connections made after the first."),
		refused:      counter("tidemark_refused_messages_total", "Messages that claimed to be schema changes and were none."),
		snapshotTime: gauge("tidemark_snapshot_timestamp_seconds", "When the newest base snapshot was taken, Unix time."),
		retainedWAL:  gauge("tidemark_retained_wal_bytes", "WAL that the source keeps for the slot."),
		xminAge:      gauge("tidemark_catalog_xmin_age", "Transactions by which the slot holds back catalog vacuum on the source."),
	}
	m.registerComputed(reg, now)
	return m
}

func (m *metrics) registerComputed(reg prometheus.Registerer, now func() time.Time) {
	computed := func(name, help string, f func() float64) {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f))
	}
	computed("tidemark_archived_lsn_bytes", "LSN up to which the archive is complete, as a number.", func() float64 { return float64(m.archivedLSN.Load()) })
	computed("tidemark_lag_bytes", "WAL written on the source and not yet archived.", func() float64 {
		return max(0, float64(m.sourceFlush.Load())-float64(m.archivedLSN.Load()))
	})
	computed("tidemark_lag_seconds", "Age of the oldest received commit that is not yet archived; 0 when there is none.", func() float64 {
		return m.pending.lag(now()).Seconds()
	})
	computed("tidemark_segment_age_seconds", "Age of the open segment; 0 when none is open.", func() float64 {
		opened := m.segmentOpened.Load()
		if opened == 0 {
			return 0
		}
		return now().Sub(time.Unix(0, opened)).Seconds()
	})
	computed("tidemark_streaming", "1 while the replication connection streams.", func() float64 { return boolGauge(m.streaming.Load()) })
	computed("tidemark_protected", "1 while a base snapshot exists and the stream is read.", func() float64 {
		return boolGauge(m.streaming.Load() && m.hasSnapshot.Load())
	})
}

func boolGauge(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// pendingCommits remembers the first commit of each segment that is received but not yet archived.
type pendingCommits struct {
	mu    sync.Mutex
	first []pendingCommit // in stream order
}

type pendingCommit struct {
	end  segment.LSN // of the segment's range; 0 while it is open
	time time.Time
}

// opened notes the first commit of a segment.
func (p *pendingCommits) opened(commit time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.first = append(p.first, pendingCommit{time: commit})
}

// closed notes where the newest segment ends.
func (p *pendingCommits) closed(end segment.LSN) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.first); n > 0 {
		p.first[n-1].end = end
	}
}

// archived forgets everything up to end.
func (p *pendingCommits) archived(end segment.LSN) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.first) > 0 && p.first[0].end != 0 && p.first[0].end <= end {
		p.first = p.first[1:]
	}
}

// reset forgets everything: the connection is gone and what was pending will come again.
func (p *pendingCommits) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.first = nil
}

func (p *pendingCommits) lag(now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.first) == 0 {
		return 0
	}
	return max(0, now.Sub(p.first[0].time))
}
