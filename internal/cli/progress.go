package cli

import (
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"tidemark/internal/config"
)

// progressInterval is how often progress is logged where there is no terminal.
const progressInterval = 5 * time.Second

// Progress shows how far a long job is: a bar on a terminal, otherwise a log line every few seconds.
// It is safe for concurrent use.
type Progress struct {
	mu    sync.Mutex
	bar   *progressbar.ProgressBar
	log   *slog.Logger
	now   func() time.Time
	next  time.Time // of the next log line
	title string
	bytes bool
	done  int64
	total int64
}

// Progress starts showing a job of total units, or of unknown length if total is not positive; bytes
// says that units are bytes. The caller calls Close at the end.
func (e *Env) Progress(title string, total int64, bytes bool) *Progress {
	p := &Progress{log: e.Log, now: e.Now, title: title, bytes: bytes, total: total}
	p.next = p.now().Add(progressInterval)
	if isTerminal(e.Stderr) {
		p.bar = newBar(e.Stderr, title, total, bytes)
	}
	return p
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

func newBar(w io.Writer, title string, total int64, bytes bool) *progressbar.ProgressBar {
	if total <= 0 {
		total = -1
	}
	return progressbar.NewOptions64(total,
		progressbar.OptionSetWriter(w),
		progressbar.OptionSetDescription(title),
		progressbar.OptionShowBytes(bytes),
		progressbar.OptionShowCount(),
		progressbar.OptionSetPredictTime(total > 0),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionClearOnFinish(),
	)
}

// Set says that done of total units are done; a total that is not positive leaves the known one.
func (p *Progress) Set(title string, done, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if total > 0 && total != p.total {
		p.total = total
		if p.bar != nil {
			p.bar.ChangeMax64(total)
		}
	}
	if title != p.title && p.bar != nil {
		p.bar.Describe(title)
	}
	p.title, p.done = title, done
	p.show()
}

// Add says that n more units are done.
func (p *Progress) Add(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += n
	p.show()
}

func (p *Progress) show() {
	if p.bar != nil {
		// A terminal that can't be written to must not end the job.
		_ = p.bar.Set64(p.done)
		return
	}
	if now := p.now(); !now.Before(p.next) {
		p.next = now.Add(progressInterval)
		p.log.Info(p.title, "done", p.amount(p.done), "total", p.amount(p.total))
	}
}

func (p *Progress) amount(n int64) string {
	switch {
	case n <= 0 && p.done != n:
		return "unknown"
	case p.bytes:
		return config.Size(n).String()
	}
	return Count(n)
}

// Close removes the bar.
func (p *Progress) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar != nil {
		_ = p.bar.Clear()
		p.bar = nil
	}
}
