package matrix

import "strings"

// moment says when a feature's statements run: before the base snapshot, while it is archived, or at the end.
type moment int

const (
	before moment = iota
	during
	after
)

// feature is something that a version brought.
type feature struct {
	since int
	sql   [3]string // by moment
}

var all = []feature{
	{14, [3]string{
		`CREATE SCHEMA f; CREATE TABLE f.multi (id int PRIMARY KEY, r int4multirange, v text COMPRESSION pglz, made date DEFAULT '2024-02-29');
		 CREATE FUNCTION f.atomic(a int) RETURNS int LANGUAGE sql IMMUTABLE BEGIN ATOMIC SELECT a + 1; END;
		 INSERT INTO f.multi VALUES (1, '{[1,3),[5,9)}', 'x')`,
		`ALTER TABLE f.multi ADD COLUMN n numeric GENERATED ALWAYS AS (id * 2) STORED; INSERT INTO f.multi VALUES (2, '{}', NULL);
		 CREATE VIEW f.view AS SELECT id, f.atomic(id) FROM f.multi; CREATE INDEX ON f.multi (f.atomic(id));
		 CREATE TABLE f.parts (id int, at date) PARTITION BY RANGE (at); CREATE TABLE f.part (at date, id int);
		 ALTER TABLE f.parts ATTACH PARTITION f.part FOR VALUES FROM ('2024-01-01') TO ('2025-01-01'); INSERT INTO f.parts VALUES (1, '2024-05-05')`,
		`UPDATE f.multi SET v = 'y' WHERE id = 1; ALTER TABLE f.parts DETACH PARTITION f.part; ALTER TYPE shop.status ADD VALUE 'späť'`,
	}},
	{15, [3]string{
		`CREATE TABLE f.unique_nulls (a int PRIMARY KEY, b int, UNIQUE NULLS NOT DISTINCT (b)); CREATE UNLOGGED SEQUENCE f.loose;
		 CREATE VIEW f.invoker WITH (security_invoker) AS SELECT * FROM f.multi`,
		`MERGE INTO f.unique_nulls u USING (VALUES (1), (2)) v(a) ON u.a = v.a WHEN NOT MATCHED THEN INSERT VALUES (v.a, v.a);
		 CREATE PUBLICATION theirs FOR TABLES IN SCHEMA f`,
		`MERGE INTO f.unique_nulls u USING (VALUES (1), (2)) v(a) ON u.a = v.a WHEN MATCHED AND u.a = 1 THEN DELETE WHEN MATCHED THEN UPDATE SET b = NULL`,
	}},
	{16, [3]string{
		`CREATE TABLE f.stored (id int PRIMARY KEY, v text STORAGE EXTERNAL); INSERT INTO f.stored VALUES (0x1F, repeat('z', 5000))`,
		`CREATE STATISTICS ON id, r FROM f.multi; INSERT INTO f.stored VALUES (1_000, 'b')`,
		`ALTER TABLE f.stored ALTER v SET STORAGE DEFAULT; DELETE FROM f.stored WHERE id = 31`,
	}},
	{17, [3]string{
		`CREATE TABLE f.numbered (id int GENERATED ALWAYS AS IDENTITY, k int, PRIMARY KEY (id, k)) PARTITION BY LIST (k); CREATE TABLE f.numbered_1 PARTITION OF f.numbered FOR VALUES IN (1);
		 INSERT INTO f.numbered (k) VALUES (1)`,
		`CREATE TABLE f.numbered_2 PARTITION OF f.numbered FOR VALUES IN (2); INSERT INTO f.numbered (k) VALUES (2), (1);
		 ALTER TABLE f.multi ALTER n SET EXPRESSION AS (id * 3)`,
		`UPDATE f.numbered SET k = 2 WHERE id = 1`,
	}},
	{18, [3]string{
		`CREATE TABLE f.virtual (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) VIRTUAL, CONSTRAINT "id needed" NOT NULL id, note text);
		 INSERT INTO f.virtual (id) VALUES (1); CREATE EXTENSION btree_gist;
		 CREATE TABLE f.booked (room int, at daterange, PRIMARY KEY (room, at WITHOUT OVERLAPS)); INSERT INTO f.booked VALUES (1, '[2024-01-01,2024-02-01)')`,
		`ALTER TABLE f.virtual ADD CONSTRAINT noted NOT NULL note NOT VALID, ADD COLUMN thrice int GENERATED ALWAYS AS (id * 3);
		 CREATE TABLE f.stay (id int PRIMARY KEY, room int, at daterange, FOREIGN KEY (room, PERIOD at) REFERENCES f.booked (room, PERIOD at) NOT ENFORCED);
		 INSERT INTO f.virtual (id, note) VALUES (2, 'x'); INSERT INTO f.booked VALUES (1, '[2024-02-01,2024-02-05)')`,
		`UPDATE f.virtual SET id = 7 WHERE id = 2; INSERT INTO f.stay VALUES (1, 1, '[2024-01-02,2024-01-03)')`,
	}},
}

// features gives the statements of a moment that a version knows.
func features(version int, m moment) string {
	var list []string
	for _, f := range all {
		if f.since <= version {
			list = append(list, f.sql[m])
		}
	}
	return strings.Join(list, ";\n")
}
