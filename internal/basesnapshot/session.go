package basesnapshot

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"tidemark/walstream"
)

// session is a connection taken over from pgconn, for COPY TO: pgconn holds a whole CopyData message (a
// row, up to a gigabyte) in memory, and here it passes through in pieces.
// https://www.postgresql.org/docs/current/protocol-message-formats.html
type session struct {
	conn  net.Conn
	paced *walstream.PacedReader
	r     *bufio.Reader // of paced
	info  serverInfo
}

const (
	readBuffer     = 64 << 10
	maxOtherBody   = 1 << 20 // bytes of any message but CopyData
	maxCopyData    = 1<<30 - 1
	messageHeadLen = 5
)

// openSession connects; the caller closes it.
func openSession(ctx context.Context, dsn string) (*session, error) {
	conn, info, err := connect(ctx, dsn)
	if err != nil {
		return nil, err
	}
	if err := conn.PgConn().SyncConn(ctx); err != nil {
		closeConn(conn)
		return nil, sqlFault(err, "opening a session")
	}
	h, err := conn.PgConn().Hijack()
	if err != nil {
		closeConn(conn)
		return nil, fmt.Errorf("opening a session: %w", err)
	}
	if n := h.Frontend.ReadBufferLen(); n != 0 {
		return nil, errors.Join(fmt.Errorf("opening a session: %d bytes are unread", n), h.Conn.Close())
	}
	paced := walstream.NewPacedReader(h.Conn)
	return &session{conn: h.Conn, paced: paced, r: bufio.NewReaderSize(paced, readBuffer), info: info}, nil
}

// close ends the session; it is nothing to wait for.
func (s *session) close() {
	_ = s.conn.SetDeadline(time.Now().Add(goodbye)) // Close comes next whatever this says
	if msg, err := (&pgproto3.Terminate{}).Encode(nil); err == nil {
		_, _ = s.conn.Write(msg)
	}
	_ = s.conn.Close()
}

// exec runs SQL and drops its rows.
func (s *session) exec(ctx context.Context, sql string) error {
	return s.query(ctx, sql, nil)
}

// copyOut runs a COPY TO STDOUT and gives its data, in pieces that have nothing to do with rows, to sink,
// which doesn't keep them. An error of sink leaves the session unusable.
func (s *session) copyOut(ctx context.Context, sql string, sink func([]byte) error) error {
	return s.query(ctx, sql, sink)
}

func (s *session) query(ctx context.Context, sql string, sink func([]byte) error) error {
	stop := context.AfterFunc(ctx, func() {
		s.paced.End()
		_ = s.conn.SetWriteDeadline(time.Unix(1, 0)) // Read ends whatever becomes of a write
	})
	defer stop()
	err := s.exchange(sql, sink)
	if ctx.Err() != nil && sqlState(err) == "" {
		return context.Cause(ctx)
	}
	return err
}

func (s *session) exchange(sql string, sink func([]byte) error) error {
	msg, err := (&pgproto3.Query{String: sql}).Encode(nil)
	if err != nil {
		return err
	}
	if _, err := s.conn.Write(msg); err != nil {
		return err
	}
	var failed error
	for {
		kind, size, err := s.head()
		if err != nil {
			return err
		}
		if kind == 'd' && sink != nil {
			if err := s.stream(size, sink); err != nil {
				return err
			}
			continue
		}
		if size > maxOtherBody {
			return fmt.Errorf("the server sent a message %q of %d bytes", kind, size)
		}
		switch kind {
		case 'E':
			if failed, err = s.serverError(size); err != nil {
				return err
			}
			continue
		case 'Z':
			_, err := s.r.Discard(size)
			return errors.Join(failed, err)
		}
		if _, err := s.r.Discard(size); err != nil {
			return err
		}
	}
}

// head reads a message's type and the size of its body.
func (s *session) head() (kind byte, size int, err error) {
	b, err := s.r.Peek(messageHeadLen)
	if err != nil {
		return 0, 0, err
	}
	kind, length := b[0], binary.BigEndian.Uint32(b[1:])
	if length < 4 || length > maxCopyData+4 {
		return 0, 0, fmt.Errorf("the server sent a message %q of %d bytes", kind, length)
	}
	_, err = s.r.Discard(messageHeadLen)
	return kind, int(length) - 4, err
}

func (s *session) stream(size int, sink func([]byte) error) error {
	for size > 0 {
		if s.r.Buffered() == 0 {
			if _, err := s.r.Peek(1); err != nil {
				return err
			}
		}
		b, err := s.r.Peek(min(size, s.r.Buffered()))
		if err != nil {
			return err
		}
		if err := sink(b); err != nil {
			return err
		}
		size -= len(b)
		if _, err := s.r.Discard(len(b)); err != nil {
			return err
		}
	}
	return nil
}

// serverError reads the body of an ErrorResponse into the error that it tells of.
func (s *session) serverError(size int) (told, err error) {
	body := make([]byte, size)
	if _, err := io.ReadFull(s.r, body); err != nil {
		return nil, err
	}
	var msg pgproto3.ErrorResponse
	if err := msg.Decode(body); err != nil {
		return nil, err
	}
	return pgconn.ErrorResponseToPgError(&msg), nil
}
