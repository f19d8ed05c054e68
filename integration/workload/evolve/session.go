package evolve

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// session is one connection. It is used by one goroutine at a time.
type session struct {
	w      *Workload
	number int
	conn   *pgx.Conn
	rng    *rand.Rand
	path   string // schema that the search path begins with and names leave out; "" for none
	names  int    // given so far
	bounds int    // given so far
	decks  map[string][]int
	plans  map[string]bool // statements prepared under these names
	solo   bool            // nobody else changes anything now
	made   []string        // kinds and forms in the transaction under way
}

// change is a kind and the statements that were made for it.
type change struct {
	group      string
	kind       kind
	statements []string
}

// step runs one transaction, or a statement that must stand alone. What a busy database is entitled to refuse
// is no error.
func (s *session) step(ctx context.Context) error {
	if s.solo = s.rng.IntN(8) == 0; s.solo {
		s.w.gate.Lock()
		defer s.w.gate.Unlock()
	} else {
		s.w.gate.RLock()
		defer s.w.gate.RUnlock()
	}
	if err := s.dress(ctx); err != nil {
		return err
	}
	err := s.transact(ctx)
	if errors.Is(err, errNothing) {
		err = nil
	}
	undress := s.exec(ctx, "ROLLBACK; RESET ROLE; RESET search_path; RESET TimeZone; RESET DateStyle; RESET standard_conforming_strings; "+
		"RESET session_replication_role; RESET check_function_bodies; RESET default_toast_compression; RESET IntervalStyle")
	s.path = ""
	if undress != nil {
		return errors.Join(err, undress)
	}
	if err != nil && !expected(err) {
		return err
	}
	return nil
}

// dress gives the session settings that the meaning of statements depends on, now and then.
func (s *session) dress(ctx context.Context) error {
	if s.rng.IntN(3) > 0 {
		return nil
	}
	settings := []string{
		"SET search_path = play, pg_catalog", "SET search_path = play, hers", `SET search_path = "Odd Näme; x", play`,
		"SET TimeZone = 'Asia/Kolkata'", "SET DateStyle = 'SQL, DMY'", "SET standard_conforming_strings = off",
		"SET session_replication_role = replica", "SET check_function_bodies = off", "SET IntervalStyle = 'sql_standard'",
		"SET ROLE evolve_alice; SET search_path = hers, play", "SET ROLE evolve_alice", "SET ROLE evolve_bob",
	}
	setting := settings[s.rng.IntN(len(settings))]
	if _, path, found := strings.Cut(setting, "search_path = "); found {
		s.path, _, _ = strings.Cut(path, ", ")
	}
	return s.run(ctx, setting, simple)
}

// transact draws what to do and does it.
func (s *session) transact(ctx context.Context) error {
	s.made = nil
	c, err := s.draw(ctx)
	switch {
	case err != nil:
		return err
	case c.kind.forms == alone:
		err = s.run(ctx, c.statements[0], s.protocol())
		if err != nil {
			err = errors.Join(err, s.tidy(ctx))
		}
		s.counted(c, err)
	case s.rng.IntN(4) == 0:
		err = s.counted(c, s.inForm(ctx, c, false))
	case s.rng.IntN(5) == 0:
		err = s.inString(ctx, c)
	default:
		err = s.inTransaction(ctx, c)
	}
	if err == nil {
		s.committed()
	}
	return err
}

// tidy removes what a statement that failed halfway has left, as its author would: an index that isn't valid, which
// the next rewrite of its table makes valid with no statement to tell of it, and a partition half detached. Others
// may be in the way for a while.
func (s *session) tidy(ctx context.Context) error {
	if err := s.exec(ctx, "ROLLBACK; RESET ROLE"); err != nil {
		return err
	}
	for range 20 {
		rows, err := s.query(ctx, `
			SELECT format('DROP INDEX %I.%I', n.nspname, c.relname) FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
			JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE NOT i.indisvalid AND c.relkind = 'i' AND n.nspname !~ '^pg_'
			UNION ALL
			SELECT format('ALTER TABLE %I.%I DETACH PARTITION %I.%I FINALIZE', pn.nspname, p.relname, n.nspname, c.relname)
			FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
			JOIN pg_catalog.pg_class p ON p.oid = i.inhparent JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace WHERE i.inhdetachpending`)
		if err != nil || len(rows) == 0 {
			return err
		}
		for _, row := range rows {
			if err := s.run(ctx, string(row[0]), simple); err != nil && !expected(err) {
				return err
			}
		}
	}
	return nil
}

// draw makes the statements of a change of a random kind, of another one when there is nothing to change.
func (s *session) draw(ctx context.Context) (change, error) {
	total := 0
	for _, g := range groupOrder {
		total += groups[g].weight
	}
	for range 50 {
		at := s.rng.IntN(total)
		var name string
		for _, name = range groupOrder {
			if at -= groups[name].weight; at < 0 {
				break
			}
		}
		k, ok := s.next(name)
		if s.rng.IntN(2) == 0 {
			if group, lacking, some := s.lacking(); some {
				name, k, ok = group, lacking, true
			}
		}
		if !ok {
			continue
		}
		statements, err := s.fill(ctx, k.sql)
		if errors.Is(err, errNothing) {
			continue
		}
		return change{name, k, statements}, err
	}
	return change{}, errNothing
}

// next takes the next kind of a group that may be made now from a shuffled deck, so that each has its turn.
func (s *session) next(group string) (kind, bool) {
	kinds := groups[group].kinds
	may := func(k kind) bool { return s.may(k) && (!s.solo || k.solo || s.rng.IntN(3) == 0) }
	if !slices.ContainsFunc(s.decks[group], func(n int) bool { return s.solo || !kinds[n].solo }) {
		s.decks[group] = append(s.decks[group], s.rng.Perm(len(kinds))...)
	}
	for i, n := range s.decks[group] {
		k := kinds[n]
		if !may(k) {
			continue
		}
		s.decks[group] = slices.Delete(s.decks[group], i, i+1)
		return k, true
	}
	return kind{}, false
}

// inTransaction runs changes and rows between BEGIN and an end, with savepoints.
func (s *session) inTransaction(ctx context.Context, c change) error {
	if err := s.run(ctx, "BEGIN", simple); err != nil {
		return err
	}
	for i := range 1 + s.rng.IntN(4) {
		if i > 0 {
			var err error
			if c, err = s.draw(ctx); err != nil {
				return err
			}
		}
		if c.kind.forms == alone {
			continue
		}
		if err := s.inSavepoint(ctx, i, func() error {
			if err := s.counted(c, s.inForm(ctx, c, true)); err != nil {
				return err
			}
			if s.rng.IntN(2) == 0 {
				return s.writeRows(ctx)
			}
			return nil
		}); err != nil {
			return err
		}
	}
	switch s.rng.IntN(12) {
	case 0:
		s.made = nil
		return s.run(ctx, "ROLLBACK", simple)
	case 1:
		s.made = append(s.made, formPrepared)
		return s.prepare(ctx)
	}
	return s.run(ctx, "COMMIT", simple)
}

// inSavepoint runs f in a savepoint, so that its failure is survived, and goes back to it now and then.
func (s *session) inSavepoint(ctx context.Context, n int, f func() error) error {
	name, before := fmt.Sprintf("s%d", n), len(s.made)
	if err := s.run(ctx, "SAVEPOINT "+name, simple); err != nil {
		return err
	}
	err := f()
	if err != nil && !expected(err) {
		return err
	}
	if err != nil || s.rng.IntN(6) == 0 {
		s.made = s.made[:before]
		if err == nil {
			s.made = append(s.made, formSavepoint)
		}
		return s.run(ctx, "ROLLBACK TO "+name, simple)
	}
	if s.rng.IntN(2) == 0 {
		return s.run(ctx, "RELEASE "+name, simple)
	}
	return nil
}

// prepare ends the transaction in two phases.
func (s *session) prepare(ctx context.Context) error {
	s.names++
	id := fmt.Sprintf("'evolve %d %d %d'", s.w.opts.Seed, s.number, s.names)
	if err := s.run(ctx, "PREPARE TRANSACTION "+id, simple); err != nil {
		return err
	}
	end := "COMMIT"
	if s.rng.IntN(4) == 0 {
		end, s.made = "ROLLBACK", nil
	}
	// A role without the right to end it would leave it behind.
	if err := s.exec(ctx, "RESET ROLE"); err != nil {
		return err
	}
	return s.run(ctx, end+" PREPARED "+id, simple)
}

// inString sends several changes and rows as one string.
func (s *session) inString(ctx context.Context, c change) error {
	statements, all := c.statements, []change{c}
	for range s.rng.IntN(3) {
		another, err := s.draw(ctx)
		if err != nil {
			return err
		}
		if another.kind.forms != alone {
			statements, all = append(statements, another.statements...), append(all, another)
		}
		if s.rng.IntN(2) == 0 {
			statements = append(statements, s.plainRow())
		}
	}
	switch s.rng.IntN(4) {
	case 0:
		statements = append(append([]string{"BEGIN"}, statements...), "COMMIT")
	case 1:
		statements = append([]string{"BEGIN", "SAVEPOINT here", "CREATE TABLE play.vanishes (a int)", "ROLLBACK TO here"}, append(statements, "COMMIT")...)
	}
	err := s.run(ctx, s.join(statements), simple)
	for _, c := range all {
		s.counted(c, err)
	}
	if err == nil {
		s.did(formSeveral)
	}
	return err
}

// inForm runs a change in a random form that takes it.
func (s *session) inForm(ctx context.Context, c change, inTransaction bool) error {
	f := s.form(c, inTransaction)
	for _, sql := range f.wrap(s, c.statements) {
		if err := s.run(ctx, sql, s.protocol()); err != nil {
			s.w.tally("form: "+f.name, err)
			return err
		}
	}
	s.did("form: " + f.name)
	if strings.HasPrefix(strings.ToUpper(c.statements[0]), "CREATE EXTENSION") {
		s.did(formScript)
	}
	return nil
}

// protocol is how a statement is sent.
type protocol int

const (
	simple   protocol = iota
	extended          // takes one statement only
	prepared          // by name, then executed
)

func (s *session) protocol() protocol { return protocol(s.rng.IntN(3)) }

// run sends a statement of a changer's and keeps it in the journal.
func (s *session) run(ctx context.Context, sql string, how protocol) error {
	if strings.Contains(sql, several) {
		how = simple
	}
	err := s.send(ctx, sql, how)
	s.w.note(s.number, sql, err)
	if err != nil {
		return fmt.Errorf("%.2000s: %w", sql, err)
	}
	s.did(protocolForms[how])
	return nil
}

// send goes below pgx, which sends everything without parameters as a simple query.
func (s *session) send(ctx context.Context, sql string, how protocol) error {
	conn := s.conn.PgConn()
	switch how {
	case extended:
		return conn.ExecParams(ctx, sql, nil, nil, nil, nil).Read().Err
	case prepared:
		if _, err := conn.Prepare(ctx, "", sql, nil); err != nil {
			return err
		}
		return conn.ExecPrepared(ctx, "", nil, nil, nil).Read().Err
	}
	_, err := conn.Exec(ctx, sql).ReadAll()
	return err
}

// exec runs a statement that belongs to no change.
func (s *session) exec(ctx context.Context, sql string) error {
	if err := s.send(ctx, sql, simple); err != nil {
		return fmt.Errorf("%.2000s: %w", sql, err)
	}
	return nil
}

// query returns the rows of a query as text, NULL as "".
func (s *session) query(ctx context.Context, sql string) ([][][]byte, error) {
	result := s.conn.PgConn().ExecParams(ctx, sql, nil, nil, nil, nil).Read()
	return result.Rows, result.Err
}

// prepared is query for one that is run again and again: planning those over the catalogs takes longer than they do.
func (s *session) prepared(ctx context.Context, name, sql string, params ...string) ([][][]byte, error) {
	conn := s.conn.PgConn()
	if !s.plans[name] {
		if _, err := conn.Prepare(ctx, name, sql, nil); err != nil {
			return nil, err
		}
		s.plans[name] = true
	}
	values := make([][]byte, len(params))
	for i, p := range params {
		values[i] = []byte(p)
	}
	result := conn.ExecPrepared(ctx, name, values, nil, nil).Read()
	return result.Rows, result.Err
}

// counted counts a change, which was made if err is nil.
func (s *session) counted(c change, err error) error {
	if name := c.group + ": " + c.kind.name; err != nil {
		s.w.tally(name, err)
	} else {
		s.did(name)
	}
	return err
}

// did counts a kind or a form in which something was done, if it is committed.
func (s *session) did(name string) {
	s.w.tally(name, nil)
	s.made = append(s.made, name)
}

// expected tells whether an error belongs to a busy database whose schema changes: what is gone, there
// already, in use, locked or of another type. A wrong statement, or an error that Tidemark has a part in, is
// none of these.
func expected(err error) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || strings.Contains(pg.Message+pg.Detail+pg.Where, "tidemark") {
		return false
	}
	switch pg.Code {
	case "42601":
		return !strings.HasPrefix(pg.Message, "syntax error")
	case "55000":
		return !strings.Contains(pg.Message, "replica identity")
	case "XX000": // concurrent changes of catalogs lead to many
		return true
	}
	switch pg.Code[:2] {
	case "0A", "22", "23", "25", "2B", "40", "42", "44", "55", "3F", "3B", "3D", "2F", "0L", "0P", "P0", "21", "28", "54":
		return true
	}
	return false
}
