package pipeline

import (
	"context"

	"tidemark/internal/basesnapshot"
	"tidemark/internal/fault"
	"tidemark/objectstore"
	"tidemark/walstream"
)

// Finding is something that keeps run from starting or makes an archive incomplete. Its Fix is always SQL;
// what SQL can't mend has a Hint.
type Finding struct {
	walstream.Finding
	Hint string `json:"hint,omitempty"`
}

// Check is the preflight of source and store: everything that would keep run from starting or make an
// archive incomplete. The errors it returns are those that keep it from answering. Store may be nil.
func Check(ctx context.Context, cfg Config) ([]Finding, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	conn, err := walstream.Connect(ctx, cfg.DSN)
	if err != nil {
		return nil, err
	}
	defer closeConn(conn)
	if cfg.Store != nil && cfg.Slot == "" {
		if cfg.Slot, _, err = recordedNames(ctx, cfg.Store); err != nil {
			return nil, err
		}
	}
	facts, err := readFacts(ctx, conn)
	if err != nil {
		return nil, err
	}
	if cfg.Slot == "" {
		cfg.Slot = DefaultSlot(facts.database)
	}
	r := runner{cfg: cfg, log: cfg.Log}
	source, err := walstream.Check(ctx, conn, r.streamConfig())
	if err != nil {
		return nil, err
	}
	var findings []Finding
	for _, f := range source {
		findings = append(findings, Finding{Finding: f, Hint: findingHint(f)})
	}
	if err := basesnapshot.CheckPgDump(ctx, cfg.PgDump, facts.version); err != nil {
		findings = append(findings, problem("pg_dump", "pg_dump", err))
	}
	if !cfg.NoSchemaCapture {
		f, err := captureFinding(ctx, conn)
		if err != nil {
			return nil, err
		}
		if f != nil {
			findings = append(findings, *f)
		}
	}
	own, err := ownFindings(ctx, conn)
	if err != nil {
		return nil, err
	}
	findings = append(findings, own...)
	if cfg.Store == nil {
		return findings, nil
	}
	return append(findings, checkStore(ctx, cfg.Store)...), nil
}

// findingCode is the exit code of run when a finding keeps it from starting.
func findingCode(f walstream.Finding) fault.Code {
	switch f.ID {
	case "slot_lost":
		return fault.Gap
	case "slot_active":
		return fault.Conflict
	}
	return fault.Usage
}

// checkStore tries every right that an archive needs on an object of its own, which it removes again.
func checkStore(ctx context.Context, store objectstore.Store) []Finding {
	err := objectstore.Probe(ctx, store)
	if err == nil {
		return nil
	}
	return []Finding{problem("store", store.String(), err)}
}

func problem(id, object string, err error) Finding {
	return Finding{Finding: walstream.Finding{ID: id, Fatal: true, Object: object, Problem: err.Error()}, Hint: fault.HintOf(err)}
}
