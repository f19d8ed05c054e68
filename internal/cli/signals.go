package cli

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// signals turns SIGINT and SIGTERM into the end of a command: at once by cancelling its context, or,
// once the command asked for it, in good order.
type signals struct {
	ctx    context.Context
	cancel context.CancelFunc
	c      chan os.Signal
	done   chan struct{}

	mu        sync.Mutex
	graceful  bool
	ending    chan struct{} // closed at the first signal
	first     os.Signal
	cancelled bool // by a signal
}

func watchSignals(parent context.Context) *signals {
	s := &signals{c: make(chan os.Signal, 4), done: make(chan struct{}), ending: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(parent)
	signal.Notify(s.c, os.Interrupt, syscall.SIGTERM)
	go s.watch()
	return s
}

func (s *signals) watch() {
	for {
		select {
		case got := <-s.c:
			s.take(got)
		case <-s.done:
			return
		}
	}
}

// take handles one signal. A graceful end is cut short only by SIGINT: supervisors may send SIGTERM more than
// once (timeout(1) signals the process and its group). After the signal that cancelled the context the
// process's default is back: one more ends it on the spot.
func (s *signals) take(got os.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := s.first == nil
	if first {
		s.first = got
		close(s.ending)
	}
	if !s.graceful || !first && got == os.Interrupt {
		s.cancelled = true
		s.cancel()
		signal.Stop(s.c)
	}
}

func (s *signals) beGraceful() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.graceful = true
	return s.ending
}

// interrupted reports whether the command was cut short by a signal, or ended in good order by SIGINT.
func (s *signals) interrupted() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cancelled || s.first == os.Interrupt
}

func (s *signals) stop() {
	signal.Stop(s.c)
	close(s.done)
	s.cancel()
}
