package pipeline

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"tidemark/internal/basesnapshot"
	"tidemark/segment"
	"tidemark/walstream"
)

// sequenceSampler reads the source's sequences. The stream does not carry them (rule 23), so segments do: a
// restore takes the first reading at or after its target. A segment is closed with a reading that is newer than
// its last commit, so that a restore to the archive's end has one too. It belongs to the goroutine of a
// session's sink.
type sequenceSampler struct {
	connect func(context.Context) (*pgx.Conn, error)
	age     time.Duration // Config.SegmentMaxAge
	log     *slog.Logger

	conn    *pgx.Conn   // nil: not connected
	lsn     segment.LSN // of the newest reading; 0: none yet
	values  []segment.Sequence
	changed bool // values differ from those last put into a segment of this session
	given   segment.LSN
	next    time.Time // not before then, but at the end of a run
}

// The stream waits while sequences are read: how long at most; the multiple of its time that lies between two
// readings where segments follow each other closely; and how long to let a source be that did not answer (one
// sequence may be locked).
const (
	sampleTimeout = 2 * time.Second
	sampleShare   = 8
	sampleRest    = 10 * time.Second
)

func newSequenceSampler(c *Config, log *slog.Logger) *sequenceSampler {
	return &sequenceSampler{
		connect: func(ctx context.Context) (*pgx.Conn, error) { return walstream.Connect(ctx, c.DSN) },
		age:     c.SegmentMaxAge, log: log,
	}
}

func (s *sequenceSampler) close() {
	if s.conn != nil {
		closeConn(s.conn)
		s.conn = nil
	}
}

// refresh reads the sequences if the newest reading is older than a position. A failure costs a segment its
// sample and is no more than a warning: a restore that has to do with an older one says so.
func (s *sequenceSampler) refresh(ctx context.Context, position segment.LSN, last bool) {
	began := time.Now()
	if s.lsn >= position || began.Before(s.next) && !last {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, sampleTimeout)
	defer cancel()
	again := s.conn != nil // a connection that was left alone may be gone
	err := s.read(ctx)
	if err != nil && again && ctx.Err() == nil {
		err = s.read(ctx)
	}
	if err != nil {
		s.next = time.Now().Add(sampleRest)
		s.log.Warn("the sequences could not be read", "err", err)
		return
	}
	s.next = began.Add(min(sampleShare*time.Since(began), max(s.age-time.Since(began), 0)))
}

func (s *sequenceSampler) read(ctx context.Context) error {
	if s.conn == nil {
		conn, err := s.connect(ctx)
		if err != nil {
			return err
		}
		s.conn = conn
	}
	values, lsn, err := basesnapshot.SampleSequences(ctx, s.conn)
	if err != nil {
		s.close()
		return err
	}
	s.changed = s.changed || s.lsn == 0 || !slices.Equal(s.values, values)
	s.lsn, s.values = lsn, values
	return nil
}

// take returns the newest reading for the segment being closed, and whether the segment must carry its
// values. A zero LSN: there is no reading newer than the last one taken.
func (s *sequenceSampler) take() (lsn segment.LSN, values []segment.Sequence, changed bool) {
	if s.lsn == s.given {
		return 0, nil, false
	}
	s.given = s.lsn
	changed = s.changed
	s.changed = false
	return s.lsn, s.values, changed
}
