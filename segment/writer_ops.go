package segment

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// Begin opens a transaction. Commit LSNs rise strictly within a segment, from Start on.
func (w *Writer) Begin(b Begin) error {
	if w.state != idle {
		return w.misuse("Begin")
	}
	if b.CommitLSN < w.o.Start || w.ledger.Transactions > 0 && b.CommitLSN <= w.ledger.LastCommitLSN {
		return w.fail(fmt.Errorf("segment: %w: commit %s after %s", ErrOrder, b.CommitLSN, max(w.ledger.LastCommitLSN, w.o.Start)))
	}
	d := w.ledger.prev
	c := append(w.block.control, codeBegin)
	c = binary.AppendUvarint(c, uint64(b.CommitLSN-d.lsn))
	c = appendSvarint(c, int64(b.CommitTime-d.time))
	w.block.control = appendSvarint(c, int64(b.XID)-int64(d.xid))
	w.ledger.begin(b, w.block.number)
	w.state, w.open, w.begin = inside, true, b
	return w.endOp()
}

// Commit ends the transaction. Its LSN and time are those of its Begin.
func (w *Writer) Commit(c Commit) error {
	if w.state != inside {
		return w.misuse("Commit")
	}
	if c.CommitLSN != w.begin.CommitLSN || c.CommitTime != w.begin.CommitTime || c.EndLSN < c.CommitLSN {
		return w.fail(fmt.Errorf("segment: %w: commit %s (end %s, %s) ends the transaction begun as %s (%s)",
			ErrOrder, c.CommitLSN, c.EndLSN, c.CommitTime, w.begin.CommitLSN, w.begin.CommitTime))
	}
	w.flushRun()
	b := append(w.block.control, codeCommit, c.Flags)
	w.block.control = binary.AppendUvarint(b, uint64(c.EndLSN-c.CommitLSN))
	w.ledger.commit(c)
	w.state, w.open = idle, false
	return w.endOp()
}

// between reports whether an operation may stand here: outside rows, values and messages.
func (w *Writer) between() bool { return w.state == idle || w.state == inside }

// Relation takes a relation's definition, which holds for its OID from here on.
func (w *Writer) Relation(r *Relation) error {
	if !w.between() {
		return w.misuse("Relation")
	}
	w.scratch = appendRelation(w.scratch[:0], r)
	if len(w.scratch) > maxOpSize || len(r.Columns) > maxColumns {
		return w.fail(fmt.Errorf("segment: definition of relation %s: %w", r, ErrTooLarge))
	}
	w.flushRun()
	sum := sha256.Sum256(w.scratch)
	known := w.relations[r.ID]
	if known != nil && known.sum == sum {
		w.block.control = binary.AppendUvarint(append(w.block.control, codeRelationAgain), uint64(known.version))
	} else {
		known = &relation{id: r.ID, version: len(w.ledger.tallies), columns: len(r.Columns), sum: sum}
		w.relations[r.ID] = known
		w.block.control = append(append(w.block.control, codeRelation), w.scratch...)
		w.ledger.relation(r.String(), w.scratch)
	}
	w.last = known
	w.ledger.Operations++
	w.ledger.RawBytes += rawRelation(r)
	return w.endOp()
}

// Type takes a data type's definition.
func (w *Writer) Type(t TypeDef) error {
	if !w.between() {
		return w.misuse("Type")
	}
	if len(t.Namespace)+len(t.Name) > maxOpSize-32 {
		return w.fail(fmt.Errorf("segment: definition of type %d: %w", t.ID, ErrTooLarge))
	}
	w.flushRun()
	c := binary.AppendUvarint(append(w.block.control, codeType), uint64(t.ID))
	w.block.control = appendString(appendString(c, t.Namespace), t.Name)
	w.ledger.Operations++
	w.ledger.RawBytes += rawTypeDef(t)
	return w.endOp()
}

// Origin marks the open transaction as foreign.
func (w *Writer) Origin(o Origin) error {
	if w.state != inside {
		return w.misuse("Origin")
	}
	if len(o.Name) > maxOpSize-32 {
		return w.fail(fmt.Errorf("segment: name of an origin: %w", ErrTooLarge))
	}
	w.flushRun()
	c := binary.AppendUvarint(append(w.block.control, codeOrigin), uint64(o.CommitLSN))
	w.block.control = appendString(c, o.Name)
	w.ledger.origin()
	w.ledger.RawBytes += rawOrigin(o)
	return w.endOp()
}

// Truncate takes a TRUNCATE of relations that have definitions. ErrUnknownRelation as for Row.
func (w *Writer) Truncate(t Truncate) error {
	if w.state != inside {
		return w.misuse("Truncate")
	}
	if len(t.Relations) > maxOpSize/5 {
		return w.fail(fmt.Errorf("segment: TRUNCATE of %d relations: %w", len(t.Relations), ErrTooLarge))
	}
	versions := make([]int, len(t.Relations))
	for i, id := range t.Relations {
		r := w.relations[id]
		if r == nil {
			return fmt.Errorf("segment: TRUNCATE of OID %d: %w", id, ErrUnknownRelation)
		}
		versions[i] = r.version
	}
	w.flushRun()
	c := append(w.block.control, codeTruncate, t.Options)
	c = binary.AppendUvarint(c, uint64(len(versions)))
	for _, v := range versions {
		c = binary.AppendUvarint(c, uint64(v))
	}
	w.block.control = c
	w.ledger.truncate(versions)
	return w.endOp()
}

// Message begins a logical message. If its Size isn't 0, calls of Bytes that come to Size follow.
func (w *Writer) Message(h MessageHeader) error {
	if !w.between() || h.Transactional && w.state != inside {
		return w.misuse("Message")
	}
	if h.Size < 0 || h.Size > maxContentSize || len(h.Prefix) > maxPrefixSize {
		return w.fail(fmt.Errorf("segment: message with a prefix of %d and content of %d bytes: %w", len(h.Prefix), h.Size, ErrTooLarge))
	}
	w.flushRun()
	if w.block.messages == nil && w.block.full() {
		if err := w.cut(0); err != nil {
			return err
		}
	}
	flags := byte(0)
	if h.Transactional {
		flags = 1
	}
	c := append(w.block.control, codeMessage, flags)
	c = appendSvarint(c, int64(w.delta().lsn-h.LSN))
	c = binary.AppendUvarint(c, uint64(len(h.Prefix)))
	w.block.control = binary.AppendUvarint(c, uint64(h.Size))
	w.msg, w.peek, w.cur = h, w.peek[:0], w.messageFrame()
	w.home, w.state, w.left = w.state, inMsg, int64(len(h.Prefix))
	if err := w.put([]byte(h.Prefix)); err != nil {
		return err
	}
	w.left = h.Size
	if h.Size == 0 {
		return w.endMessage()
	}
	return nil
}

// messageFrame returns the open block's frame for messages.
func (w *Writer) messageFrame() *frame {
	if w.block.messages == nil {
		w.block.messages = w.block.frame(streamMessages, 0)
	}
	return w.block.messages
}

func (w *Writer) endMessage() error {
	w.ledger.message(w.msg, w.peek)
	w.state = w.home
	w.msg = MessageHeader{}
	return w.endOp()
}

// Bytes takes the next bytes of the announced value or message.
func (w *Writer) Bytes(b []byte) error {
	if int64(len(b)) > w.left || w.state != inValue && w.state != inMsg {
		return w.misuse("Bytes")
	}
	if w.state == inMsg && len(w.peek) <= maxPeek {
		w.peek = append(w.peek, b[:min(len(b), maxPeek+1-len(w.peek))]...)
	}
	if err := w.put(b); err != nil {
		return err
	}
	if w.left > 0 {
		return nil
	}
	if w.state == inMsg {
		return w.endMessage()
	}
	w.state = inRow
	return nil
}

// put appends bytes to the current frame, ending blocks that they make too large.
func (w *Writer) put(b []byte) error {
	w.left -= int64(len(b))
	for {
		room := max(2*w.o.BlockSize-w.block.size(), 0)
		if len(b) <= room {
			w.cur.buf = append(w.cur.buf, b...)
			w.block.bytes += len(b)
			return nil
		}
		w.cur.buf = append(w.cur.buf, b[:room]...)
		w.block.bytes += room
		b = b[room:]
		if err := w.split(); err != nil {
			return err
		}
	}
}

// split ends the block inside an operation, which continues in a frame of the same stream in the next.
func (w *Writer) split() error {
	if err := w.cut(blockGoesOn); err != nil {
		return err
	}
	if w.state == inMsg {
		w.cur = w.messageFrame()
		return nil
	}
	w.cur = w.tupleFrame(w.row.relation)
	return nil
}
