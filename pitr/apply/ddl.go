package apply

import (
	"bytes"
	"context"
	"errors"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/internal/ddl"
	"tidemark/internal/fault"
	"tidemark/segment"
)

// Schema says how schema changes are replayed.
type Schema struct {
	// Choose says what becomes of a change; nil: all must be made. An error ends the replay.
	Choose func(*ddl.Message) (Choice, error)

	// AcceptInexact goes past changes that don't give what the source has, which otherwise end the replay.
	AcceptInexact bool
	NoOwner       bool // everything belongs to the connecting role
	NoPrivileges  bool // no GRANT and REVOKE
	Partial       bool // the target lacks some of what the base snapshot has

	// Helpers are the tables that have an index for the replay alone, their OIDs here by those at the source. The index is
	// dropped before a change of its table.
	Helpers map[uint32]uint32

	// Empty are the materialized views, by their OIDs on the target, that have rows at the source and none here: whoever
	// replays fills them in the end. Changes keep it up to date. Where it is nil, views are filled wherever the source did.
	Empty map[uint32]bool

	// Since is the position that the target is as of when the replay begins. A change whose message lies before
	// it, and whose commit doesn't, was made beside others that are there already.
	Since segment.LSN

	// Within is the schema whose triggers are held back while replaying; "": every one's.
	Within string

	// Note gets what a person should know of; called from another goroutine than Apply's, one at a time. May be nil.
	Note func(string)
}

// Choice is what becomes of a schema change.
type Choice int

// The choices.
const (
	Make  Choice = iota // it must be made
	Try                 // it is made where what it needs is there
	Leave               // it is passed over
)

// Announced is a schema change that is about to come, in the transaction with that commit LSN. Message is nil
// for one that can't be read.
type Announced struct {
	CommitLSN segment.LSN
	LSN       segment.LSN // of the message
	Message   *ddl.Message
}

// change is an announced change; done if it ran before its place came.
type change struct {
	message *ddl.Message
	at      segment.LSN // of the message
	done    bool
}

// Announce tells of all schema changes of the records that come next, in their order. It is called between
// transactions. Rows of a table that the same transaction makes by CREATE TABLE AS or CREATE EXTENSION come
// before the change, and find their table only if it was announced. In atomic mode an announced change has
// the transaction's batch to itself.
func (a *Applier) Announce(changes []Announced) {
	for _, c := range changes {
		a.announced[c.CommitLSN] = append(a.announced[c.CommitLSN], &change{message: c.Message, at: c.LSN})
	}
}

// beginChanges takes up the changes announced for the transaction that begins.
func (a *Applier) beginChanges() error {
	a.changes, a.nth = a.announced[a.begin.CommitLSN], 0
	if len(a.changes) == 0 {
		return nil
	}
	delete(a.announced, a.begin.CommitLSN)
	if a.opts.Atomic == nil {
		return nil
	}
	return a.commit(true)
}

// isChange reports whether a record is a schema change (docs/format/segment.md counts them likewise).
func isChange(r *segment.Record) bool {
	if !r.Message.Transactional || r.Message.Prefix != ddl.Prefix {
		return false
	}
	if large := r.Content.Large; large != nil {
		head := make([]byte, len(ddl.ContentPrefix))
		n, err := large.ReadAt(head, 0)
		return err == nil && string(head[:n]) == ddl.ContentPrefix
	}
	return bytes.HasPrefix(r.Content.Data, []byte(ddl.ContentPrefix))
}

// maxChange bounds a schema change's content: PostgreSQL's own bound on a value.
const maxChange = 1 << 30

// DecodeChange reads a schema change out of a record; nil if the record is something else.
func DecodeChange(r *segment.Record) (*ddl.Message, error) {
	if r.Op != segment.OpMessage || !isChange(r) {
		return nil, nil
	}
	content := r.Content.Data
	if large := r.Content.Large; large != nil {
		if large.Size() > maxChange {
			return nil, errors.New("a schema change of more than 1 GiB")
		}
		content = make([]byte, large.Size())
		if _, err := large.ReadAt(content, 0); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
	}
	return ddl.Decode(content)
}

// message makes the schema change that a record holds, if it holds one.
func (a *Applier) message(ctx context.Context, r *segment.Record) error {
	if a.opts.Schema == nil || !isChange(r) {
		return nil
	}
	if a.nth < len(a.changes) {
		c := a.changes[a.nth]
		a.nth++
		if c.done {
			return nil
		}
		if c.done = true; c.message != nil {
			return a.change(ctx, c.message, r.Message.LSN)
		}
	}
	m, err := DecodeChange(r)
	if err != nil {
		if a.opts.Schema.AcceptInexact {
			a.tell("a schema change at LSN " + a.begin.CommitLSN.String() + " could not be read and was passed over: " + err.Error())
			return nil
		}
		return fault.Wrap(err, fault.Uncovered, inexactHint, "transaction %d at LSN %s", a.begin.XID, a.begin.CommitLSN)
	}
	return a.change(ctx, m, r.Message.LSN)
}

// early makes the table of a row that comes before the change that made it.
func (a *Applier) early(ctx context.Context, r *segment.Relation) error {
	for _, c := range a.changes[a.nth:] {
		if !c.done && c.message != nil && rowsFirst(c.message, r.ID) {
			c.done = true
			return a.change(ctx, c.message, c.at)
		}
	}
	return nil
}

// rowsFirst reports whether rows of the relation come before the change that makes it.
func rowsFirst(m *ddl.Message, relation uint32) bool {
	return slices.ContainsFunc(m.Objects, func(o ddl.Object) bool {
		return o.OID == relation && o.Type == "table" && (m.RowsFirst || o.Extension && m.Tag == "CREATE EXTENSION")
	})
}

var ofLargeObjects = regexp.MustCompile(`(?is)^\s*(?:GRANT|REVOKE)\b.*\bON\s+LARGE\s+OBJECT\b`)

// neverRestored reports whether a change is about nothing but what is never restored: subscriptions, which would take
// changes from their publisher, and large objects.
func neverRestored(m *ddl.Message) bool {
	other := func(o ddl.Object) bool { return o.Type != "subscription" && o.Type != "large object" }
	return len(m.Objects) > 0 && !slices.ContainsFunc(m.Objects, other) || isPrivilege(m) && ofLargeObjects.MatchString(m.SQL)
}

const inexactHint = "restore to a moment before it, or from a base snapshot taken after it; --accept-inexact goes past it"

// change makes a schema change at this place of the stream. Everything before it is with the server, in
// parallel committed; nothing that is known of the target's tables outlives it.
func (a *Applier) change(ctx context.Context, m *ddl.Message, at segment.LSN) error {
	s := a.opts.Schema
	choice := Make
	if s.Choose != nil {
		var err error
		if choice, err = s.Choose(m); err != nil {
			return err
		}
	}
	if s.NoPrivileges && isPrivilege(m) || s.NoOwner && isOwnership(m) {
		choice = Leave
	}
	if choice == Leave || neverRestored(m) {
		return nil
	}
	if m.Inexact != "" {
		if !s.AcceptInexact && choice == Make {
			return a.refuse(m, fault.Uncovered, errors.New(m.Inexact))
		}
		a.inexact(m.Tables)
		a.tell(a.describe(m) + " is not exact from here on: " + m.Inexact)
	}
	if m.SQL == "" {
		return nil
	}
	if err := a.barrier(); err != nil {
		return err
	}
	a.changed = true
	e := &execution{schema: s, message: m, holds: &a.holds, choice: choice, source: a.begin, atomic: a.opts.Atomic != nil,
		early: at <= s.Since, alone: at > a.settled && a.recent.seenBy(m.Snapshot), told: a.told}
	e.unseen, e.overlap, e.latest = a.namings.unseen(m, a.begin.XID, at)
	if err := a.sendWait(a.workers[0], command{do: e.run, commit: a.opts.Atomic == nil}); err != nil {
		return err
	}
	a.forget()
	if e.failed != nil {
		return a.passOver(e, choice)
	}
	a.namings.add(e.steps)
	a.renameLabels(e.steps)
	a.tellMembers(m)
	if m.Tag == "ALTER TYPE" {
		if err := a.giveLabels(ctx); err != nil {
			return err
		}
		if err := a.keepLabels(); err != nil {
			return err
		}
	}
	for _, oid := range e.emptied {
		a.live[oid] = &Live{Reset: true}
	}
	return nil
}

// tellMembers notes that the members of an extension may have got other privileges than at the source: the message of what made
// them doesn't hold these.
func (a *Applier) tellMembers(m *ddl.Message) {
	switch m.Tag {
	case "ALTER DEFAULT PRIVILEGES":
		a.defaults.add(a.begin.XID)
	case "CREATE EXTENSION", "ALTER EXTENSION":
		others := slices.DeleteFunc(slices.Clone(a.defaults), func(xid uint32) bool { return xid == a.begin.XID })
		if !others.seenBy(m.Snapshot) {
			a.tell(a.describe(m) + ": look at the privileges on its members, for default privileges were changed meanwhile")
		}
	}
}

// passOver decides about a change that could not be made, and was undone.
func (a *Applier) passOver(e *execution, choice Choice) error {
	m := e.message
	switch {
	case choice == Try:
		if !missesSomething(e.failed) {
			a.tell(a.describe(m) + " was left out: " + e.failed.Error())
		}
		return nil
	case !a.opts.Schema.AcceptInexact:
		return a.refuse(m, codeOf(e.failed), e.failed)
	}
	a.inexact(m.TableNames())
	a.tell(a.describe(m) + " was passed over: " + e.failed.Error())
	return nil
}

// missesSomething reports whether the server refused for want of an object: one that isn't restored.
func missesSomething(err error) bool {
	if errors.Is(err, errElsewhere) || errors.Is(err, errStays) || errors.Is(err, errUnknown) {
		return true
	}
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && slices.Contains([]string{"42P01", "42704", "42883", "3F000", "42703"}, pgErr.Code)
}

// refuse says which change ends the replay.
func (a *Applier) refuse(m *ddl.Message, code fault.Code, err error) error {
	e := &fault.Error{Code: code, Hint: inexactHint, Err: err, Msg: a.describe(m)}
	return e
}

// describe names a change: what it was about, its statement, and where it stands.
func (a *Applier) describe(m *ddl.Message) string { return describeChange(m, a.begin) }

const shownStatement = 300

func describeChange(m *ddl.Message, begin segment.Begin) string {
	return Describe(m) + ", transaction " + itoa(int64(begin.XID)) + ", LSN " + begin.CommitLSN.String()
}

// Describe names a change for people: its tag, what it is about, and the beginning of its statement.
func Describe(m *ddl.Message) string {
	s := m.Tag
	if about := About(m); about != "" {
		s += " on " + about
	}
	if m.SQL != "" {
		s += " (" + shorten(m.SQL, shownStatement) + ")"
	}
	return s
}

// shorten puts a statement on one line of bearable length.
func shorten(sql string, length int) string {
	s := strings.ToValidUTF8(strings.Join(strings.Fields(sql), " "), "?")
	if len(s) > length {
		return strings.ToValidUTF8(s[:length], "") + " …"
	}
	return s
}

func (a *Applier) tell(note string) {
	if a.opts.Schema.Note != nil {
		a.opts.Schema.Note(note)
	}
}

// inexact remembers tables whose rows are not those of the source any more; none: all.
func (a *Applier) inexact(tables []string) {
	if len(tables) == 0 {
		a.doubtAll = true
	}
	for _, t := range tables {
		a.doubted[t] = true
	}
	a.generation++
}

// Reconsider has Options.Inexact asked anew. It is called between transactions.
func (a *Applier) Reconsider() { a.generation++ }

// Doubted reports whether changes were gone past that are not exact: rows are not compared any more.
func (a *Applier) Doubted() bool { return a.doubtAll || len(a.doubted) > 0 }

// doubts reports whether rows of a table may be missing or there already.
func (a *Applier) doubts(r *segment.Relation) bool {
	if a.doubtAll || a.doubted[r.String()] {
		return true
	}
	return a.opts.Inexact != nil && a.opts.Inexact(r, a.begin.CommitLSN)
}

// isPrivilege reports whether a change is about privileges alone.
func isPrivilege(m *ddl.Message) bool {
	return m.Tag == "GRANT" || m.Tag == "REVOKE" || m.Tag == "ALTER DEFAULT PRIVILEGES"
}
