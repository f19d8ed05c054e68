package pipeline

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"tidemark/catalog"
	"tidemark/internal/fault"
	"tidemark/internal/resident"
	"tidemark/objectstore"
	"tidemark/segment"
	"tidemark/walstream"
)

// session is one START of replication: it compares server and archive, claims an epoch, and streams until
// something ends it. It returns nil when the end was asked for and everything received is archived and
// acknowledged.
func (r *runner) session(ctx context.Context, stop <-chan struct{}) error {
	ctx, leave := r.enter(ctx)
	defer leave()
	err := r.stretch(ctx, stop)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx) // why it was ended, rather than what was going on then
	}
	return err
}

func (r *runner) stretch(ctx context.Context, stop <-chan struct{}) error {
	if err := r.catalog.Refresh(ctx); err != nil {
		return err
	}
	view := r.catalog.View()
	history, ok := view.Newest()
	if !ok {
		return fault.New(fault.Failed, "", "the archive holds no history")
	}
	timeline := lastTimeline(view, history)
	config := r.streamConfig()
	config.KnownTimeline = timeline
	stream, err := walstream.Start(ctx, config)
	if err != nil {
		return err
	}
	defer closeStream(stream)
	id := stream.Identity()
	expected, err := r.judge(ctx, view, history, timeline, id)
	if err != nil {
		return err
	}
	watch, err := r.watchSource(ctx, view, history)
	if err != nil {
		return err
	}
	defer watch.close()
	source, err := watch.recorded()
	if err != nil {
		return err
	}
	epoch, err := r.claim(ctx, id.Timeline, source)
	if err != nil {
		return err
	}
	var tables *unannounced
	err = r.withSource(ctx, func(conn *pgx.Conn) (err error) {
		tables, err = newUnannounced(ctx, conn)
		return err
	})
	if err != nil {
		return fmt.Errorf("listing the tables: %w", err)
	}
	sequences := newSequenceSampler(&r.cfg, r.log)
	defer sequences.close()
	return r.receive(ctx, stop, stream, sessionStart{
		history: history.Number, epoch: epoch, sequences: sequences, resent: newResent(history.End, expected), watch: watch, tables: tables,
	})
}

// judge compares archive and server and returns the archived commits that the server has to send again.
func (r *runner) judge(ctx context.Context, view *catalog.View, h catalog.HistoryPoint, timeline int32, id walstream.Identity) (map[segment.LSN]archivedCommit, error) {
	j := compare(&h.Begins, timeline, h.End, id)
	switch j.verdict {
	case newHistory:
		return nil, &divergedError{reason: j.reason, fork: j.fork, timeline: id.Timeline}
	case gap:
		return nil, fault.New(fault.Gap, gapHint, "history %d has a hole: %s", h.Number, j.reason)
	}
	return r.archivedCommits(ctx, view, h.Number, id.Slot.ConfirmedFlush, h.End)
}

const gapHint = "run again with --accept-gap to record the hole and start over with a new slot and base snapshot"

// archivedCommits reads the commits at or after from out of the archive's newest segments.
func (r *runner) archivedCommits(ctx context.Context, view *catalog.View, history uint32, from, end segment.LSN) (map[segment.LSN]archivedCommit, error) {
	commits := map[segment.LSN]archivedCommit{}
	if from >= end {
		return commits, nil
	}
	for e, err := range view.Entries(ctx, catalog.Range{History: history, From: from, To: end}) {
		if err != nil {
			return nil, err
		}
		if e.Kind != catalog.KindSegment {
			continue
		}
		index, err := readIndex(ctx, r.cfg.Store, e.Segment)
		if err != nil {
			return nil, err
		}
		for _, t := range index.Transactions {
			if t.CommitLSN >= from {
				commits[t.CommitLSN] = archivedCommit{xid: t.XID, time: t.CommitTime}
			}
		}
	}
	return commits, nil
}

// readIndex fetches a segment's index, which stands in its last part.
func readIndex(ctx context.Context, store objectstore.Store, s *catalog.Segment) (*segment.Index, error) {
	last := s.Objects[len(s.Objects)-1]
	index, err := segment.ReadIndex(segment.PartFile{R: objectstore.ReaderAt(ctx, store, last.Key), Size: last.Size, Name: last.Key})
	if errors.Is(err, objectstore.ErrNotFound) {
		return nil, fault.Wrap(err, fault.Damage, "restorer verify names everything that is missing", "%s is missing", last.Key)
	}
	return index, err
}

// claim appends a writer entry: the epoch of this START. Entries of older epochs are void from then on.
// source is what the next START is to compare with.
func (r *runner) claim(ctx context.Context, timeline int32, source string) (uint64, error) {
	e, err := r.catalog.Append(ctx, func(v *catalog.View) (catalog.Entry, error) {
		newest := v.Epoch()
		switch own := newest.Writer.Instance == r.instance.id; {
		case own: // perhaps by a claim whose answer was lost
		case r.claimed != 0:
			return catalog.Entry{}, fault.New(fault.Conflict, "only one archiver may write to an archive: stop the other, or give this one an archive of its own", "another archiver has taken over this archive")
		default:
			r.before, r.claimedAt = v, time.Now()
		}
		w := r.writer(timeline, false)
		w.Source = source
		return catalog.Entry{Kind: catalog.KindWriter, Epoch: newest.Epoch + 1, Writer: w}, nil
	})
	if err != nil {
		return 0, err
	}
	r.claimed = e.Epoch
	return e.Epoch, nil
}

func (r *runner) writer(timeline int32, stopped bool) *catalog.Writer {
	i := r.instance
	return &catalog.Writer{Instance: i.id, Host: i.host, PID: i.pid, Boot: i.boot, PIDNamespace: i.namespace, Started: i.started,
		Version: r.cfg.Version, Timeline: timeline, Stopped: stopped}
}

// sessionStart is what a session knows when it begins to receive.
type sessionStart struct {
	history   uint32
	epoch     uint64
	resent    *resent
	sequences *sequenceSampler
	watch     *watch
	tables    *unannounced
}

// receive streams into the archive until the end is reached or something fails.
func (r *runner) receive(ctx context.Context, stop <-chan struct{}, stream *walstream.Stream, start sessionStart) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	pub := newPublisher(&publisher{
		store: r.cfg.Store, catalog: r.catalog, history: start.history, epoch: start.epoch, ack: stream.Ack,
		// A session has its own buffers: what an abandoned one left half full is nobody's.
		buffers: newBuffers(uploadsInFlight+1, segment.BufferSize(r.cfg.PartSize, 0)), metrics: r.metrics, log: r.log,
		verify: start.watch.verify, found: r.inexactFound,
	})
	published := make(chan error, 1)
	go func() {
		err := pub.run(ctx)
		if err != nil {
			cancel(err)
		}
		published <- err
	}()
	go func() {
		if err := start.watch.run(ctx); err != nil {
			cancel(err)
		}
	}()
	s := r.newSink(ctx, stop, pub, start, blockSize(stream))
	r.metrics.archivedLSN.Store(uint64(start.resent.end))
	r.metrics.streaming.Store(true)
	r.announce()
	if err := resident.Release(); err != nil { // what only the start needed
		r.log.Debug("the program's own memory was not given back", "error", err)
	}
	r.log.Info("streaming", "slot", r.cfg.Slot, "history", start.history, "epoch", start.epoch, "from", start.resent.end)

	err := stream.Receive(ctx, s)
	close(pub.jobs)
	if errors.Is(err, errFinished) {
		return r.finish(ctx, published, stream, start)
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause // what ended the context ended Receive
	}
	cancel(err)
	// The connection first: a store that does not even notice that its request was given up must not keep
	// a stopping primary waiting.
	closeStream(stream)
	if abandoned := awaitPublisher(published); abandoned {
		r.log.Warn("the store does not answer to the end of a request, leaving it behind")
	}
	return err
}

// publisherPatience is how long the publisher may take to notice that its session has ended. A file system
// whose server is gone blocks in the kernel; what it finishes later is fenced by the next epoch.
const publisherPatience = 3 * time.Second

// awaitPublisher waits for the publisher of a session that failed, and tells if it had to be left behind.
func awaitPublisher(published <-chan error) (abandoned bool) {
	select {
	case <-published:
		return false
	case <-time.After(publisherPatience):
		return true
	}
}

// finish waits until everything is archived, then ends the epoch in good order.
func (r *runner) finish(ctx context.Context, published <-chan error, stream *walstream.Stream, start sessionStart) error {
	select {
	case err := <-published:
		if err != nil {
			return err
		}
	case <-ctx.Done():
		closeStream(stream)
		awaitPublisher(published)
		return context.Cause(ctx)
	}
	closeStream(stream)
	_, err := r.catalog.Append(ctx, func(v *catalog.View) (catalog.Entry, error) {
		if v.Epoch().Epoch != start.epoch {
			return catalog.Entry{}, fault.New(fault.Conflict, "", "another archiver has taken over this archive")
		}
		return catalog.Entry{Kind: catalog.KindWriter, Epoch: start.epoch, Writer: r.writer(stream.Identity().Timeline, true)}, nil
	})
	if err != nil {
		return fmt.Errorf("ending the epoch: %w", err)
	}
	return nil
}

// blockSize is how much goes into a block of a segment, in bytes before compression. While one is compressed, which takes about
// a millisecond for the usual size, nothing is read; a server that would have to wait then gets blocks half as large.
func blockSize(stream *walstream.Stream) int {
	if stream.Shallow() {
		return segment.DefaultBlockSize / 2
	}
	return segment.DefaultBlockSize
}

// newSink makes the sink of a session.
func (r *runner) newSink(ctx context.Context, stop <-chan struct{}, pub *publisher, start sessionStart, blockSize int) *sink {
	archive := r.catalog.View().Identity().UUID()
	end := start.resent.end
	return &sink{
		cfg: &r.cfg, pub: pub, resent: start.resent, sequences: start.sequences, stop: stop,
		sample: func(at segment.LSN, last bool) { start.sequences.refresh(ctx, at, last) }, until: r.untilReady,
		upload:  func(lsn segment.LSN, p segment.Part) (*upload, error) { return pub.upload(ctx, lsn, p) },
		enqueue: func(j job) error { return pub.enqueue(ctx, j) },
		newWriter: func(lsn segment.LSN, emit func(segment.Part) error) (*segment.Writer, error) {
			return segment.NewWriter(segment.WriterOptions{
				Archive: archive, History: start.history, Epoch: start.epoch, Start: lsn, PartSize: r.cfg.PartSize, BlockSize: blockSize,
				Buffer: func() ([]byte, error) { return pub.buffers.get(ctx) }, Emit: emit,
			})
		},
		onCommit: r.activity.commit, onRel: func(rel *segment.Relation, commit segment.LSN) {
			if !start.watch.capturing.Load() {
				r.needs.relation(rel, commit)
			}
		},
		end: end, last: end, now: time.Now(), watermarkAt: time.Now(),
		relations: map[uint32]*relationState{}, types: map[uint32]*typeState{},
		unannounced: start.tables, shapes: map[uint32]shownShape{}, capturing: start.watch.capturing.Load,
		keys: start.watch.keys.keys, passage: &start.watch.passage,
		judge: func(commit segment.LSN, made func([][]byte) bool) (authenticity, error) {
			return start.watch.judge(ctx, commit, made)
		},
	}
}

func closeStream(stream *walstream.Stream) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	// What is durable was acknowledged before; if the last status is lost, the server sends a little again.
	_ = stream.Close(ctx)
}

// lastTimeline returns the timeline that the history's server was last seen on.
func lastTimeline(v *catalog.View, h catalog.HistoryPoint) int32 {
	if claim := v.Epoch(); claim.Seq > h.Seq {
		return claim.Writer.Timeline
	}
	return h.Begins.Timeline
}
