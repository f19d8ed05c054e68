package pipeline

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"tidemark/catalog"
	"tidemark/internal/fault"
	"tidemark/segment"
	"tidemark/walstream"
)

// Run archives the source until stop is closed (then it closes the segment, archives it, acknowledges and
// returns nil), until cfg.Until is archived, or until something is wrong that time does not mend. Outages
// of the source and the store are waited out. The end of ctx ends it at once: what was not archived was not
// acknowledged and comes again.
func Run(ctx context.Context, stop <-chan struct{}, cfg Config) error {
	r, err := newRunner(cfg)
	if err != nil {
		return err
	}
	return r.run(ctx, stop)
}

// runner is one archiver process at work.
type runner struct {
	cfg      Config
	log      *slog.Logger
	metrics  *metrics
	instance instance
	activity activity
	catalog  *catalog.Log
	needs    *snapshotNeeds
	until    atomic.Uint64 // LSN to archive up to; 0: none, or not known yet

	claimed   uint64        // the newest epoch this process claimed
	before    *catalog.View // the archive as its first claim found it
	claimedAt time.Time     // and when

	replaced string // identity of the capture that installCapture put another in place of

	announcing sync.Mutex

	mu     sync.Mutex
	endNow func(error) // ends the current session
	grace  *time.Timer // runs while the primary says that it shuts down
}

func newRunner(cfg Config) (*runner, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	r := &runner{
		cfg: cfg, log: cfg.Log, instance: newInstance(), needs: newSnapshotNeeds(),
		metrics: newMetrics(cfg.Registerer, time.Now),
	}
	// What an earlier run archived last may still be without a later commit that settles its time.
	r.activity.unsettled.Store(true)
	return r, nil
}

// run prepares the archive, then streams and takes snapshots side by side until one of them ends it all.
func (r *runner) run(ctx context.Context, stop <-chan struct{}) error {
	first, err := r.prepareUnless(ctx, stop)
	if err != nil || r.stopped(stop) {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	background, endBackground := context.WithCancel(ctx)
	group.Go(func() error {
		m := &monitor{cfg: &r.cfg, metrics: r.metrics, activity: &r.activity, log: r.log,
			stopping: r.primaryStopping, alive: r.primaryAlive}
		m.run(background)
		return nil
	})
	group.Go(func() error { return r.snapshots(background, stop, first) })
	streamed := make(chan error, 1)
	group.Go(func() error {
		defer endBackground()
		err := r.stream(ctx, stop)
		streamed <- err
		return err
	})
	group.Go(func() error {
		r.limitStop(background, stop)
		return nil
	})
	ended := make(chan error, 1)
	go func() { ended <- group.Wait() }()
	return r.awaitEnd(ended, streamed)
}

// backgroundPatience is how long the rest may take to tidy up once the stream has ended.
const backgroundPatience = 10 * time.Second

// awaitEnd waits for everything, but not for ever once the stream has ended: a base snapshot may be stuck in a
// store that does not even fail.
func (r *runner) awaitEnd(ended, streamed <-chan error) error {
	select {
	case err := <-ended:
		return err
	case err := <-streamed:
		select {
		case err := <-ended:
			return err
		case <-time.After(r.cfg.backgroundPatience):
			r.log.Warn("a base snapshot does not end, leaving it behind")
			return err
		}
	}
}

// prepareUnless prepares, giving up when stop is closed.
func (r *runner) prepareUnless(ctx context.Context, stop <-chan struct{}) (*walstream.CreatedSlot, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	first, err := r.prepare(ctx)
	if err != nil && r.stopped(stop) {
		return nil, nil
	}
	return first, err
}

func (r *runner) stopped(stop <-chan struct{}) bool {
	select {
	case <-stop:
		return true
	default:
		return false
	}
}

// stream keeps a session going, connecting again after what time mends.
func (r *runner) stream(ctx context.Context, stop <-chan struct{}) error {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval = 200 * time.Millisecond
	pause.MaxInterval = 10 * time.Second
	var same undecodable
	for {
		started := time.Now()
		err := r.session(ctx, stop)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if r.stopped(stop) {
			return err
		}
		if h, ok := r.catalog.View().Newest(); ok {
			if stuck := same.note(err, h.End); stuck != nil {
				err = stuck
			}
		}
		if again, fatal := r.afterSession(ctx, err); fatal != nil {
			return fatal
		} else if again {
			continue
		}
		r.metrics.errors.WithLabelValues("stream").Inc()
		r.metrics.reconnects.Inc()
		if time.Since(started) > time.Minute {
			pause.Reset()
		}
		wait := pause.NextBackOff()
		r.log.Warn("stream ended, connecting again", "err", err, "in", wait.Round(time.Millisecond))
		select {
		case <-time.After(wait):
		case <-stop:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// afterSession tells what a failed session asks for: again at once (again), the end (fatal), or to be tried
// again after a pause (neither).
func (r *runner) afterSession(ctx context.Context, err error) (again bool, fatal error) {
	var diverged *divergedError
	if errors.As(err, &diverged) {
		return true, r.beginHistory(ctx, diverged)
	}
	if errors.Is(err, errPrimaryStopping) {
		return false, nil
	}
	switch fault.CodeOf(err) {
	case fault.Unreachable, fault.Interrupted:
		return false, nil
	case fault.Conflict:
		if r.cfg.Standby && r.claimed == 0 {
			r.log.Info("another archiver has the slot, waiting for it", "err", err)
			return false, nil
		}
		return false, err
	case fault.Gap:
		if r.cfg.AcceptGap {
			return true, r.acceptGap(ctx, err)
		}
		return false, &fault.Error{Code: fault.Gap, Hint: gapHint, Err: err}
	case fault.Failed:
		// A broken connection surfaces in many shapes. What isn't one of the contract's errors is tried
		// again: nothing was acknowledged that is not durable.
		return false, nil
	}
	return false, err
}

// primaryStopping is told by the monitor that the source shuts down. The walsender waits until everything
// is acknowledged; if the store does not take it within the grace, the session is ended, so that the
// shutdown is not held up (rule 4).
func (r *runner) primaryStopping() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.grace == nil {
		r.grace = time.AfterFunc(r.cfg.ShutdownGrace, func() { r.endSession(errPrimaryStopping) })
	}
}

// primaryAlive is told by the monitor that the source answers.
func (r *runner) primaryAlive() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.grace != nil {
		r.grace.Stop()
		r.grace = nil
	}
}

// closeTimeout bounds the good order of a stop: the last segment's upload, its entry, the last
// acknowledgement. It lies below the 30 s that supervisors usually give a process.
const closeTimeout = 25 * time.Second

// limitStop ends the session cfg.closeTimeout after stop was closed, unless ctx ends first.
func (r *runner) limitStop(ctx context.Context, stop <-chan struct{}) {
	select {
	case <-stop:
	case <-ctx.Done():
		return
	}
	select {
	case <-time.After(r.cfg.closeTimeout):
		r.endSession(fault.New(fault.Unreachable, "what was not archived was not acknowledged and comes again", "the store did not take the last segment within %s", r.cfg.closeTimeout))
	case <-ctx.Done():
	}
}

func (r *runner) endSession(cause error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.endNow != nil {
		r.endNow(cause)
	}
}

// enter makes a session the current one and returns its context and how to leave it.
func (r *runner) enter(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.endNow = cancel
	return ctx, func() {
		cancel(nil)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.endNow = nil
		r.metrics.streaming.Store(false)
		r.announce()
		r.metrics.segmentOpened.Store(0)
		r.metrics.pending.reset()
	}
}

// announce tells whether the source is protected: streamed from, with a base snapshot of the newest history
// behind its last gap or inexact range.
func (r *runner) announce() {
	r.announcing.Lock()
	defer r.announcing.Unlock()
	_, ok := newestSnapshot(r.catalog.View())
	r.metrics.hasSnapshot.Store(ok)
	r.cfg.Ready(ok && r.metrics.streaming.Load())
}

// inexactFound asks for a base snapshot behind a range whose replay is not exact.
func (r *runner) inexactFound(reason string) {
	r.announce()
	r.needs.request(reason)
}

// untilReady returns where to end once that is known and what is archived can be restored, else 0.
func (r *runner) untilReady() segment.LSN {
	until := segment.LSN(r.until.Load())
	if until == 0 {
		return 0
	}
	if _, ok := newestSnapshot(r.catalog.View()); !ok {
		return 0
	}
	return until
}

func (r *runner) streamConfig() walstream.Config {
	return walstream.Config{DSN: r.cfg.DSN, Slot: r.cfg.Slot, Publication: r.cfg.Publication, Tables: r.cfg.Tables, Log: r.log}
}

// withSource runs f with an ordinary connection to the source.
func (r *runner) withSource(ctx context.Context, f func(*pgx.Conn) error) error {
	conn, err := walstream.Connect(ctx, r.cfg.DSN)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	return f(conn)
}
