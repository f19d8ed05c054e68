package walstream

import (
	"context"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/segment"
)

// joinLockTimeout bounds the wait for a table's writers: others wait behind it.
const joinLockTimeout = "500ms"

// UnpublishedTable is a table that the archive is to hold and a listed publication lacks.
type UnpublishedTable struct {
	OID     uint32
	Name    string // as segment.QualifiedName writes it
	Problem string // why it can't be published, or ""
	Fix     string // SQL that publishes it, perhaps after what Problem says

	quoted string
	mend   []string // statements that give it, and its partitions, a replica identity
}

// Unpublished returns the tables that cfg.Tables asks for and the publication lacks, none where there is no publication.
func Unpublished(ctx context.Context, conn *pgx.Conn, cfg Config) ([]UnpublishedTable, error) {
	cfg, err := cfg.normal()
	if err != nil {
		return nil, err
	}
	src, err := readSource(ctx, conn, cfg)
	if err != nil || src.pub == nil {
		return nil, err
	}
	var list []UnpublishedTable
	for _, t := range src.uncovered() {
		list = append(list, src.unpublished(t))
	}
	return list, nil
}

// unpublished describes how a table can join: once it is published, UPDATE and DELETE must go on working. An identity that
// somebody has chosen is left alone.
func (s *source) unpublished(t *sourceTable) UnpublishedTable {
	u := UnpublishedTable{OID: t.OID, Name: segment.QualifiedName(t.Namespace, t.Name), Fix: s.addTable(t), quoted: t.Quoted}
	for _, x := range s.withPartitions(t) {
		f, bad := s.checkIdentity(x)
		switch {
		case !s.server.Superuser && !x.Owned:
			u.Problem = "only the owner of " + x.Quoted + " can add it"
		case !bad:
		case x.Identity == "n" || strings.Contains(f.Fix, "PRIMARY KEY"):
			u.Problem, u.Fix = x.Quoted+": "+f.Problem, f.Fix+"; "+u.Fix
		default:
			u.mend = append(u.mend, f.Fix)
		}
	}
	return u
}

// withPartitions returns a table and all of its partitions.
func (s *source) withPartitions(t *sourceTable) []*sourceTable {
	list := []*sourceTable{t}
	for _, p := range s.tables {
		for _, oid := range p.Ancestors {
			if oid == t.OID {
				list = append(list, p)
			}
		}
	}
	return list
}

// Publish adds a table to the publication. It waits a moment for the transactions that have written to it: none has rows
// before the publication's change that are committed after it. refused says why the server did not do it.
func Publish(ctx context.Context, conn *pgx.Conn, publication string, t UnpublishedTable) (refused, err error) {
	mode := "SHARE ROW EXCLUSIVE"
	if len(t.mend) > 0 {
		mode = "ACCESS EXCLUSIVE" // what the statements take in any case
	}
	statements := append([]string{"SET LOCAL lock_timeout = '" + joinLockTimeout + "'", "LOCK TABLE " + t.quoted + " IN " + mode + " MODE"}, t.mend...)
	statements = append(statements, "ALTER PUBLICATION "+pgx.Identifier{publication}.Sanitize()+" ADD TABLE ONLY "+t.quoted)
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		for _, sql := range statements {
			if _, err := tx.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol); err != nil {
				return err
			}
		}
		return nil
	})
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && ctx.Err() == nil && pg.Severity != "FATAL" {
		return flat{pg}, nil
	}
	return nil, queryFault(err, "adding table %s to publication %s", t.Name, publication)
}
