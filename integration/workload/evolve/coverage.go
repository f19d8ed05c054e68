package evolve

import (
	"slices"
	"sync"
)

// Coverage counts, over any number of workloads, the changes of each kind and in each form that were committed.
// Workloads that share one prefer what it lacks.
type Coverage struct {
	mu   sync.Mutex
	done map[string]int
}

// Other ways in which changes come, beside the forms in which they are written.
const (
	formSeveral   = "form: string of several changes"
	formSavepoint = "form: savepoint rolled back"
	formPrepared  = "form: prepared transaction"
	formScript    = "form: extension script"
)

var protocolForms = map[protocol]string{simple: "form: simple protocol", extended: "form: extended protocol", prepared: "form: prepared statement"}

// Kinds returns the names of all kinds and forms, as Tallies and Coverage have them.
func Kinds() []string {
	var names []string
	for _, g := range groupOrder {
		for _, k := range groups[g].kinds {
			names = append(names, g+": "+k.name)
		}
	}
	for _, f := range forms {
		names = append(names, "form: "+f.name)
	}
	names = append(names, formSeveral, formSavepoint, formPrepared, formScript)
	for _, p := range []protocol{simple, extended, prepared} {
		names = append(names, protocolForms[p])
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Missing returns what was not done yet, of Kinds.
func (c *Coverage) Missing() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(Kinds(), func(name string) bool { return c.done[name] > 0 })
}

func (c *Coverage) lacks(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.done[name] == 0
}

func (c *Coverage) add(names []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done == nil {
		c.done = map[string]int{}
	}
	for _, name := range names {
		c.done[name]++
	}
}

// committed counts what the session has done since the last call. Where changes are allowed that no archive carries
// exactly, an archive may refuse to give back the others as well: they don't count.
func (s *session) committed() {
	names := s.made
	s.made = nil
	if s.w.opts.Inexact {
		names = slices.DeleteFunc(names, func(name string) bool { return !isInexact[name] })
	}
	s.w.opts.Coverage.add(names)
}

var isInexact = func() map[string]bool {
	names := map[string]bool{}
	for group, g := range groups {
		for _, k := range g.kinds {
			names[group+": "+k.name] = k.owes == Inexact
		}
	}
	return names
}()

// lacking draws a kind that is still missing and may be made now; ok is false if there is none.
func (s *session) lacking() (group string, k kind, ok bool) {
	type choice struct {
		group string
		kind  kind
	}
	var all []choice
	for _, name := range groupOrder {
		for _, k := range groups[name].kinds {
			if s.may(k) && (k.owes == Inexact || !s.w.opts.Inexact) && s.w.opts.Coverage.lacks(name+": "+k.name) {
				all = append(all, choice{name, k})
			}
		}
	}
	if solo := slices.DeleteFunc(slices.Clone(all), func(c choice) bool { return !c.kind.solo }); len(solo) > 0 {
		all = solo // their time is short
	}
	if len(all) == 0 {
		return "", kind{}, false
	}
	c := all[s.rng.IntN(len(all))]
	return c.group, c.kind, true
}

// may tells whether a change of the kind may be made now.
func (s *session) may(k kind) bool {
	return (k.owes == Exact || s.w.opts.Inexact) && (s.solo || !k.solo)
}
