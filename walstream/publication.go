package walstream

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/jackc/pgx/v5"

	"tidemark/internal/fault"
)

// Publication is what pg_publication and its member tables say. The server keeps no record of changes
// to it: compare Fingerprint at each start and from time to time.
type Publication struct {
	Name             string
	OID              uint32
	AllTables        bool
	Insert           bool
	Update           bool
	Delete           bool
	Truncate         bool
	ViaRoot          bool // changes of partitions are sent as those of their root
	GeneratedColumns bool // stored generated columns are sent (18 and later)
	Tables           []PublishedTable
	Schemas          []string
	Fingerprint      string // changes with every change of the publication or its membership (SHA-256, hex)
}

// PublishedTable is a member of a publication.
type PublishedTable struct {
	OID       uint32
	Namespace string
	Name      string
	Filtered  bool // only rows of a WHERE clause
	Columns   bool // only some columns
	xmin      string
}

const publicationQuery = `
select p.oid, p.xmin::text, p.puballtables, p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate, p.pubviaroot,
  coalesce(to_jsonb(p)->>'pubgencols', 'n') not in ('n', 'false')
from pg_publication p where p.pubname = $1`

const membersQuery = `
select c.oid, n.nspname, c.relname, coalesce(to_jsonb(r)->>'prqual', '') <> '',
  coalesce(to_jsonb(r)->>'prattrs', '') <> '', r.xmin::text
from pg_publication_rel r join pg_class c on c.oid = r.prrelid join pg_namespace n on n.oid = c.relnamespace
where r.prpubid = $1 order by c.oid`

const schemasQuery = `
select n.nspname || ' ' || s.xmin::text from pg_publication_namespace s join pg_namespace n on n.oid = s.pnnspid
where s.pnpubid = $1 order by 1`

// ReadPublication returns the publication, nil when there is none of that name.
func ReadPublication(ctx context.Context, conn *pgx.Conn, name string) (*Publication, error) {
	p := &Publication{Name: name}
	var xmin string
	err := conn.QueryRow(ctx, publicationQuery, name).Scan(&p.OID, &xmin, &p.AllTables, &p.Insert, &p.Update,
		&p.Delete, &p.Truncate, &p.ViaRoot, &p.GeneratedColumns)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err == nil {
		err = p.readMembers(ctx, conn)
	}
	if err != nil {
		return nil, queryFault(err, "reading publication %s", name)
	}
	p.Fingerprint = p.fingerprint(xmin)
	for i, s := range p.Schemas {
		p.Schemas[i] = s[:strings.LastIndexByte(s, ' ')]
	}
	return p, nil
}

func (p *Publication) readMembers(ctx context.Context, conn *pgx.Conn) error {
	rows, err := conn.Query(ctx, membersQuery, p.OID)
	if err != nil {
		return err
	}
	p.Tables, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (t PublishedTable, err error) {
		err = row.Scan(&t.OID, &t.Namespace, &t.Name, &t.Filtered, &t.Columns, &t.xmin)
		return t, err
	})
	if err != nil || majorOf(conn.PgConn()) < 15 {
		return err
	}
	if rows, err = conn.Query(ctx, schemasQuery, p.OID); err != nil {
		return err
	}
	p.Schemas, err = pgx.CollectRows(rows, pgx.RowTo[string])
	return err
}

func (p *Publication) fingerprint(xmin string) string {
	h := sha256.New()
	fmt.Fprintln(h, p.OID, xmin, p.AllTables, p.Insert, p.Update, p.Delete, p.Truncate, p.ViaRoot, p.GeneratedColumns)
	for _, t := range p.Tables {
		fmt.Fprintln(h, t.OID, t.xmin)
	}
	_, _ = io.WriteString(h, strings.Join(p.Schemas, "\n")) // a hash never fails
	return hex.EncodeToString(h.Sum(nil))
}

// EnsurePublication makes the publication if there is none: FOR ALL TABLES where no patterns are given
// and our role is a superuser, else FOR TABLE with the tables there are now. Call it before the slot
// is made. Before anything is made, tables whose UPDATEs would fail once they are published are
// refused (Usage); so is an existing publication that leaves something out.
func EnsurePublication(ctx context.Context, conn *pgx.Conn, cfg Config) (created bool, err error) {
	if cfg, err = cfg.normal(); err != nil {
		return false, err
	}
	src, err := readSource(ctx, conn, cfg)
	if err != nil {
		return false, err
	}
	if problems := fatal(append(src.checkTables(), src.checkPublication()...)); len(problems) > 0 {
		return false, refusePublication(cfg, problems)
	}
	if src.pub != nil {
		return false, nil
	}
	if _, err := conn.Exec(ctx, src.createPublication()); err != nil {
		return false, queryFault(err, "creating publication %s", cfg.Publication)
	}
	cfg.Log.Info("made the publication", "publication", cfg.Publication, "all_tables", src.allTables())
	if src.allTables() {
		cfg.Log.Warn("tables made from now on need a primary key or REPLICA IDENTITY FULL (schema capture sees to it where it is installed): PostgreSQL refuses UPDATE and DELETE on others while they are published")
	}
	return true, nil
}

// refusePublication makes one error out of the findings, with the first one's fix.
func refusePublication(cfg Config, problems []Finding) error {
	f := problems[0]
	more := ""
	if n := len(problems) - 1; n > 0 {
		more = fmt.Sprintf(" (and %d more; archiver check --sql prints every fix)", n)
	}
	return fault.New(fault.Usage, f.Fix+more, "publication %s can't be used: %s: %s", cfg.Publication, f.Object, f.Problem)
}

// createPublication returns the statement that makes the publication. ONLY keeps inheritance children
// out that match no pattern; partitions always come with their parent.
func (s *source) createPublication() string {
	head := "CREATE PUBLICATION " + pgx.Identifier{s.cfg.Publication}.Sanitize()
	const with = " WITH (publish = 'insert, update, delete, truncate')"
	if s.allTables() {
		return head + " FOR ALL TABLES" + with
	}
	return head + " FOR TABLE " + strings.Join(onlyNames(s.listed()), ", ") + with
}

func onlyNames(tables []*sourceTable) []string {
	var names []string
	for _, t := range tables {
		names = append(names, "ONLY "+t.Quoted)
	}
	return names
}

// DropPublication drops the publication; one that isn't there is fine.
func DropPublication(ctx context.Context, conn *pgx.Conn, name string) error {
	_, err := conn.Exec(ctx, "DROP PUBLICATION IF EXISTS "+pgx.Identifier{name}.Sanitize())
	return queryFault(err, "dropping publication %s", name)
}
