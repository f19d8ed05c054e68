package walstream

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"tidemark/internal/fault"
	"tidemark/segment"
	"tidemark/walstream/pgoutput"
)

// ErrClosed is what Receive returns when the Stream was closed meanwhile.
var ErrClosed = errors.New("the replication stream was closed")

const (
	bufferSize = 256 << 10
	frameHead  = 5      // type, length
	walHead    = 1 + 24 // 'w', start, end, server's clock
	aliveSize  = 1 + 17 // 'k', end, server's clock, reply wanted
)

// receiver reads frames from the connection, many at a time, into one buffer of fixed size. A frame
// that is larger than the buffer is decoded piece by piece.
type receiver struct {
	s       *Stream
	h       Handler
	dec     *pgoutput.Decoder
	log     *slog.Logger
	pace    pacer
	buf     []byte
	r, w    int // unread bytes are buf[r:w]
	asked   askedTimes
	lastLSN segment.LSN // start position of the last WAL message that had one, for error texts
}

// Receive reads the stream and tells h, until ctx is cancelled (it returns ctx.Err within about 100 ms), h
// returns an error (returned as it is), or the stream breaks: Unreachable means that a new Start
// may go on, Gap that changes were skipped or can't be read. Only one Receive may run at a time, and
// none after an error.
func (s *Stream) Receive(ctx context.Context, h Handler) error {
	select {
	case <-s.receiving:
		defer func() { s.receiving <- struct{}{} }()
	default:
		if s.closing.Load() {
			return ErrClosed
		}
		return errors.New("walstream: Receive is running already")
	}
	return s.receiver(h, bufferSize).run(ctx)
}

func (s *Stream) receiver(h Handler, size int) *receiver {
	return &receiver{
		s: s, h: h, dec: pgoutput.NewDecoder(h), log: s.log,
		pace: newPacer(s.conn, s.lowLatency),
		buf:  make([]byte, size),
	}
}

func (r *receiver) run(ctx context.Context) error {
	defer r.pace.idle()
	for {
		if err := r.frames(ctx); err != nil {
			return err
		}
		if err := r.fill(ctx, true); err != nil {
			return err
		}
	}
}

// fill waits for more bytes, appends them to the buffer and, between messages, keeps the Handler's
// ticks going. There must be room.
func (r *receiver) fill(ctx context.Context, between bool) error {
	for {
		if err := r.interrupted(ctx); err != nil {
			return err
		}
		now := time.Now()
		if r.pace.due(now) {
			if between {
				if err := r.h.Tick(now); err != nil {
					return err
				}
				now = time.Now()
			}
			if err := r.s.conn.SetReadDeadline(r.pace.next(now)); err != nil {
				return broken(err)
			}
		}
		r.pace.before()
		n, err := r.s.src.Read(r.buf[r.w:])
		r.w += n
		if n > 0 {
			r.pace.read(n)
			return nil
		}
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return broken(err)
		}
	}
}

// interrupted returns why reading should stop, if it should.
func (r *receiver) interrupted(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if r.s.closing.Load() {
		return ErrClosed
	}
	return r.s.status.err()
}

func broken(err error) error {
	const hint = "the connection is made again"
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fault.New(fault.Unreachable, hint, "the server closed the replication connection")
	}
	return fault.Wrap(flat{err}, fault.Unreachable, hint, "the replication connection broke")
}

// frames handles every whole frame in the buffer, and one that is larger than the buffer as far as it
// goes; then it makes room for the next read.
func (r *receiver) frames(ctx context.Context) error {
	for r.w-r.r >= frameHead {
		typ, size := r.buf[r.r], int(int32(binary.BigEndian.Uint32(r.buf[r.r+1:])))+1
		switch {
		case size < frameHead:
			return protocolError("a frame %q of %d bytes", typ, size)
		case size <= r.w-r.r:
			body := r.buf[r.r+frameHead : r.r+size]
			r.r += size
			if err := r.frame(typ, body); err != nil {
				return err
			}
		case size > len(r.buf):
			if err := r.largeFrame(ctx, typ, size); err != nil {
				return err
			}
		default:
			r.makeRoom(size)
			return nil
		}
	}
	r.makeRoom(frameHead)
	return nil
}

// makeRoom moves the unread bytes to the front where a frame of size bytes would not fit behind them.
func (r *receiver) makeRoom(size int) {
	if r.r == r.w {
		r.r, r.w = 0, 0
		return
	}
	if len(r.buf)-r.r < size || r.w == len(r.buf) {
		r.w = copy(r.buf, r.buf[r.r:r.w])
		r.r = 0
	}
}

func protocolError(format string, args ...any) error {
	return fault.New(fault.Failed, "is that really a PostgreSQL server, without a proxy that rewrites the protocol?",
		"the replication stream is garbled: "+format, args...)
}

// frame handles one whole frame.
func (r *receiver) frame(typ byte, body []byte) error {
	r.pace.frame()
	if typ != 'd' {
		return r.control(typ, body)
	}
	switch {
	case len(body) > walHead && body[0] == 'w':
		r.position(body)
		if err := r.dec.Decode(body[walHead:]); err != nil {
			return r.undecodable(err)
		}
		r.committed(body[walHead])
		return nil
	case len(body) == aliveSize && body[0] == 'k':
		return r.keepalive(body)
	case len(body) == 0:
		return protocolError("an empty message")
	}
	return protocolError("a message %q of %d bytes", body[0], len(body))
}

// largeFrame handles a frame that doesn't fit into the buffer: it can only be a WAL message.
func (r *receiver) largeFrame(ctx context.Context, typ byte, size int) error {
	r.makeRoom(size)
	for r.w-r.r < frameHead+walHead+1 {
		if err := r.fill(ctx, false); err != nil {
			return err
		}
	}
	body := r.buf[r.r+frameHead : r.w]
	if typ != 'd' || body[0] != 'w' {
		return protocolError("a frame %q of %d bytes", typ, size)
	}
	r.pace.frame()
	r.position(body)
	rest := size - (r.w - r.r)
	r.r, r.w = 0, 0
	more := func() ([]byte, error) {
		if err := r.fillAnew(ctx); err != nil {
			return nil, err
		}
		piece := r.buf[:min(r.w, rest)]
		r.r, rest = len(piece), rest-len(piece)
		return piece, nil
	}
	op := body[walHead]
	if err := r.dec.DecodePieces(body[walHead:], size-frameHead-walHead, more); err != nil {
		return r.undecodable(err)
	}
	r.committed(op)
	return nil
}

// fillAnew reads into a buffer whose bytes have all been used.
func (r *receiver) fillAnew(ctx context.Context) error {
	r.r, r.w = 0, 0
	return r.fill(ctx, false)
}

// position remembers where a WAL message came from. The header's positions are no cursor: they are
// 0/0 for relation, type and origin messages.
func (r *receiver) position(body []byte) {
	if lsn := segment.LSN(binary.BigEndian.Uint64(body[1:])); lsn != 0 {
		r.lastLSN = lsn
	}
}

// committed notes a commit's end once the Handler has seen it.
func (r *receiver) committed(op byte) {
	if segment.Op(op) == segment.OpCommit {
		r.s.status.received(r.dec.CommitEnd())
	}
}

// undecodable says where in the stream a message could not be decoded; other errors stay as they are.
func (r *receiver) undecodable(err error) error {
	if e, ok := errors.AsType[*pgoutput.Error](err); ok {
		return fault.Wrap(e, fault.Failed, "please report this with the server's version", "near LSN %s", r.lastLSN)
	}
	return err
}

func (r *receiver) keepalive(body []byte) error {
	k := Keepalive{
		WALEnd:         segment.LSN(binary.BigEndian.Uint64(body[1:])),
		ServerTime:     segment.Timestamp(binary.BigEndian.Uint64(body[9:])),
		ReplyRequested: body[17] != 0,
	}
	r.s.status.received(k.WALEnd)
	if k.ReplyRequested {
		k.Urgent = r.asked.add(time.Now())
		r.s.status.reply()
	}
	return r.h.Keepalive(k)
}

// control handles a frame that isn't data.
func (r *receiver) control(typ byte, body []byte) error {
	switch typ {
	case 'N':
		return r.notice(body)
	case 'E':
		var msg pgproto3.ErrorResponse
		if err := msg.Decode(body); err != nil {
			return protocolError("an error message that can't be read")
		}
		pg := pgconn.ErrorResponseToPgError(&msg)
		code, hint := streamCode(pg)
		return fault.Wrap(flat{pg}, code, hint, "the server ended the stream")
	case 'c', 'C', 'Z':
		return fault.New(fault.Unreachable, "the server is shutting down; it is tried again", "the server ended the stream")
	case 'S', 'A':
		return nil // a setting was reloaded, or somebody's NOTIFY
	}
	return protocolError("a frame %q of %d bytes", typ, len(body))
}

// notice passes a notice to the log. A warning with 55000 is no notice: since 18 a publication that is
// missing at some point of the WAL makes the server skip changes and only say so.
func (r *receiver) notice(body []byte) error {
	var msg pgproto3.NoticeResponse
	if err := msg.Decode(body); err != nil {
		return protocolError("a notice that can't be read")
	}
	if msg.Code == "55000" {
		return fault.New(fault.Gap, "a new base snapshot is needed; never drop the publication while the slot lives",
			"the server skips changes near LSN %s: %s (%s)", r.lastLSN, msg.Message, msg.Detail)
	}
	r.log.Warn("the source says", "severity", msg.Severity, "code", msg.Code, "message", msg.Message, "detail", msg.Detail)
	return nil
}

// askedTimes recognises a server that asks for answers without pause. In normal running it asks at
// most twice per wal_sender_timeout, and not at all while statuses come from us in time.
type askedTimes [4]time.Time

func (a *askedTimes) add(now time.Time) (urgent bool) {
	copy(a[:], a[1:])
	a[len(a)-1] = now
	return !a[0].IsZero() && now.Sub(a[0]) <= time.Second
}
