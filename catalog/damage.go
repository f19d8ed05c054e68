package catalog

import (
	"errors"
	"fmt"

	"tidemark/internal/fault"
)

// ErrNoArchive is the mark of Open's error when the store holds no archive at all.
var ErrNoArchive = errors.New("there is no archive here")

// ErrArchiveExists is the mark of Create's error when the store holds an archive already.
var ErrArchiveExists = errors.New("there is an archive here already")

// Damage says which object is wrong, and how. As an error it comes wrapped in a fault with code
// fault.Damage; errors.AsType[*Damage] finds it.
type Damage struct {
	Object  string `json:"object"`           // key
	Offset  int64  `json:"offset"`           // byte where it was noticed, -1 where only the whole object is known to be wrong
	Problem string `json:"problem"`          // for people: one line
	Derived bool   `json:"derived,omitzero"` // a book or root: computed from the log, which still has everything
}

// Error names the object and the problem.
func (d *Damage) Error() string {
	if d.Offset > 0 {
		return fmt.Sprintf("%s at byte %d: %s", d.Object, d.Offset, d.Problem)
	}
	return d.Object + ": " + d.Problem
}

func damaged(key, format string, args ...any) *Damage {
	return &Damage{Object: key, Offset: -1, Problem: fmt.Sprintf(format, args...)}
}

func derivedDamage(key, format string, args ...any) *Damage {
	d := damaged(key, format, args...)
	d.Derived = true
	return d
}

const (
	hintDamage  = "`restorer verify` says what else is damaged and which windows are still good"
	hintDerived = "it only repeats the log, whose own objects are not all there, or say something else: `restorer verify` names them. Put them, or it, back from a copy of the archive"
)

// asFault gives a *Damage its exit code and hint, and leaves every other error, and one that has them, as it is.
func asFault(err error) error {
	d, ok := errors.AsType[*Damage](err)
	if !ok || fault.CodeOf(err) == fault.Damage {
		return err
	}
	hint := hintDamage
	if d.Derived {
		hint = hintDerived
	}
	return fault.Wrap(err, fault.Damage, hint, "the catalog is damaged")
}

// versionFault refuses an object that a newer Tidemark wrote.
func versionFault(key string, version int) error {
	return fault.New(fault.Failed, "read this archive with a newer Tidemark",
		"%s has format version %d; this Tidemark reads up to %d", key, version, FormatVersion)
}
