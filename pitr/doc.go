// Package pitr brings an archived database back: a Target (what a person asked for) becomes a Plan
// (a pure function of what the catalog knows), and a Plan becomes a database. Log lists the archived
// transactions, so that a target can be found in the first place.
//
// Nothing here picks another target than the one asked for: a restore ends exactly there, or fails.
package pitr
