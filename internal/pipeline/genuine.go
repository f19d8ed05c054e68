package pipeline

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"time"

	"tidemark/catalog"
	"tidemark/internal/ddl"
	"tidemark/segment"
)

const (
	scanLimit       = 64
	maxSchemaChange = 16 << 20 // bytes of a message that are gathered
	warnInterval    = 10 * time.Second
)

// messageScan follows a message's content as it passes, and gathers the start of Tidemark's own to recognise
// them. The header of one that may be a schema change is held back until its whole content is known to be
// genuine: any role of the source may write such messages.
type messageScan struct {
	header   segment.MessageHeader
	own      bool
	held     bool
	left     int64 // bytes of content still to come
	content  []byte
	verifier *ddl.Verifier
}

// scan begins to follow a message.
func (s *sink) scan(h segment.MessageHeader) *messageScan {
	m := &messageScan{header: h, own: h.Transactional && h.Prefix == MessagePrefix, left: h.Size}
	if m.held = m.own && h.Size > 0 && !s.skipping; m.held {
		m.verifier = ddl.NewVerifier(s.keys())
	}
	return m
}

func (m *messageScan) pass(b []byte) {
	m.left -= int64(len(b))
	switch {
	case !m.own:
		return
	case m.held:
		m.content = append(m.content, b...)
	default:
		if n := min(len(b), scanLimit-len(m.content)); n > 0 {
			m.content = append(m.content, b[:n]...)
		}
	}
	if m.verifier != nil {
		_, _ = m.verifier.Write(b)
	}
}

func (m *messageScan) isHeartbeat() bool { return m.own && string(m.content) == heartbeatContent }

func (m *messageScan) isMark() bool { return m.own && bytes.HasPrefix(m.content, []byte(markContent)) }

func (m *messageScan) isSchemaChange() bool {
	return m.own && bytes.HasPrefix(m.content, []byte(ddl.ContentPrefix))
}

// made reports whether one of the keys made the content, which is whole.
func (m *messageScan) made(keys [][]byte) bool {
	v := ddl.NewVerifier(keys)
	_, _ = v.Write(m.content)
	return v.Genuine()
}

// ownBytes archives what was read of a message of Tidemark's, once it is known what it is.
func (s *sink) ownBytes(m *messageScan, b []byte) error {
	switch {
	case !m.held:
		if err := s.writer.Bytes(b); err != nil || m.left > 0 || !m.isSchemaChange() {
			return err
		}
		return s.longChange(m)
	case m.left > 0 && len(m.content) < max(len(ddl.ContentPrefix), len(markContent)):
		return nil
	case !m.isSchemaChange():
		m.verifier = nil
		if m.isMark() {
			s.countMark(m)
		}
		return s.release(m)
	case m.left == 0:
		return s.wholeChange(m)
	case len(m.content) >= maxSchemaChange:
		m.header.Prefix = ddl.RefusedPrefix // no replay reads it
		return s.release(m)
	}
	return nil
}

// maxMarks is how many marks of a segment are archived as such. archiver mark writes each in a transaction of its own, which ends
// a segment; anybody can write any number, and a segment's index and its catalog entry have them all.
const maxMarks = 256

// countMark lets a mark pass as such, if there aren't too many.
func (s *sink) countMark(m *messageScan) {
	if s.marks++; s.marks <= maxMarks {
		return
	}
	m.header.Prefix = ddl.RefusedPrefix // no reader takes it for a mark
	if s.marks == maxMarks+1 {
		s.cfg.Log.Warn("a transaction has too many marks: the others are not taken for marks", "xid", s.begin.XID, "lsn", s.begin.CommitLSN, "taken", maxMarks)
	}
}

// release archives what was held back of a message.
func (s *sink) release(m *messageScan) error {
	m.held = false
	if err := s.writer.Message(m.header); err != nil {
		return err
	}
	return s.writer.Bytes(m.content)
}

// wholeChange archives a message that claims to be a schema change, and notes where its replay can't give what
// the source has.
func (s *sink) wholeChange(m *messageScan) error {
	v, err := s.judge(s.begin.CommitLSN, m.made)
	if err != nil {
		return err
	}
	if v == genuine && ddl.TransactionOf(m.content) != s.begin.XID {
		v = forged // written again by another transaction
	}
	if v != genuine {
		m.header.Prefix = ddl.RefusedPrefix
	}
	if err := s.release(m); err != nil {
		return err
	}
	switch v {
	case forged:
		s.refuse(m)
	case doubtful:
		s.notExact("a schema change can't be verified: "+unverifiable, nil)
	case genuine:
		change, err := ddl.Decode(m.content)
		switch {
		case err != nil:
			s.notExact(fmt.Sprintf("a schema change can't be read: %v", err), nil)
		case change.Inexact != "":
			s.notExact(change.Tag+": "+change.Inexact, change.Tables)
		default:
			s.changes++
		}
		if err == nil {
			s.unannounced.announced(change)
			s.passage.explain(change)
		}
	}
	return nil
}

const unverifiable = "its key was replaced or can't be read any more"

// longChange notes a schema change that was not kept whole.
func (s *sink) longChange(m *messageScan) error {
	v, err := s.judge(s.begin.CommitLSN, func([][]byte) bool { return m.verifier.Genuine() })
	if err != nil {
		return err
	}
	if v == forged {
		s.refuse(m)
		return nil
	}
	s.notExact("a schema change is too long to be replayed", nil)
	s.passage.explain(&ddl.Message{Tag: wholeScript, XID: s.begin.XID})
	return nil
}

// notExact notes that the schema changed and that a replay can't do the same.
func (s *sink) notExact(reason string, tables []string) {
	s.changes++
	at := s.begin.CommitLSN
	s.inexact = append(s.inexact, catalog.Inexact{From: at, To: at + 1, Tables: tables, Reason: reason})
}

// refuse notes a message that claims to be a schema change and is none. Nothing changed, so the archive is exact.
func (s *sink) refuse(m *messageScan) {
	s.refused++
	s.pub.metrics.refused.Inc()
	if s.now.Sub(s.warnedAt) < warnInterval {
		return
	}
	s.warnedAt = s.now
	s.cfg.Log.Warn("somebody wrote a message that claims to be a captured schema change and is none: it is not replayed",
		"xid", s.begin.XID, "lsn", s.begin.CommitLSN, "bytes", m.header.Size)
}

// authenticity is what a message is that claims to be a schema change.
type authenticity int

const (
	forged authenticity = iota
	genuine
	doubtful // it may be either
)

// keyring has the keys that the session saw.
type keyring struct {
	mu     sync.Mutex
	all    [][]byte
	since  segment.LSN // every genuine message of a later commit was made with the newest key
	looked segment.LSN // the newest key was read after every earlier commit
}

func (k *keyring) learn(key []byte, since, looked segment.LSN) {
	k.mu.Lock()
	defer k.mu.Unlock()
	known := len(key) == 0
	for _, old := range k.all {
		known = known || bytes.Equal(old, key)
	}
	if !known {
		k.all = append(k.all[:len(k.all):len(k.all)], key)
	}
	k.since, k.looked = max(k.since, since), max(k.looked, looked)
}

func (k *keyring) keys() [][]byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.all
}

func (k *keyring) positions() (since, looked segment.LSN) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.since, k.looked
}

// judge tells whether a message that claims to be a schema change is one: made with a key that is or was the
// source's. Before it calls one forged it has read the key after the message's commit.
func (w *watch) judge(ctx context.Context, commit segment.LSN, made func(keys [][]byte) bool) (authenticity, error) {
	if made(w.keys.keys()) {
		return genuine, nil
	}
	if _, looked := w.keys.positions(); looked <= commit {
		w.mu.Lock()
		err := w.tolerantLook(ctx, publisherAwaits)
		w.mu.Unlock()
		if err != nil {
			return forged, err
		}
		if made(w.keys.keys()) {
			return genuine, nil
		}
	}
	if since, looked := w.keys.positions(); commit < since || looked <= commit {
		return doubtful, nil
	}
	return forged, nil
}
