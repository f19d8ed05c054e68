package integration

import (
	"testing"

	"tidemark/internal/testserver/postgres"
)

// newestSQL has what only PostgreSQL 18 knows, or does otherwise than those before it.
const newestSQL = `
CREATE EXTENSION btree_gist;
CREATE TABLE virtual (id int PRIMARY KEY, a int, twice int GENERATED ALWAYS AS (a * 2), thrice int GENERATED ALWAYS AS (a * 3) STORED);
CREATE TABLE all_virtual (one int GENERATED ALWAYS AS (1), id int PRIMARY KEY); INSERT INTO all_virtual (id) VALUES (1), (2);
INSERT INTO virtual (id, a) VALUES (1, 1), (2, NULL), (3, 3);
CREATE TABLE loose (id int PRIMARY KEY, v int, w int CHECK (w > 0) NOT ENFORCED, o int REFERENCES virtual NOT ENFORCED); INSERT INTO loose VALUES (1, NULL, -1, 99), (2, 2, 2, 2);
ALTER TABLE loose ADD CONSTRAINT v_there NOT NULL v NOT VALID;
CREATE TABLE stay (room int, during tstzrange, guest text, PRIMARY KEY (room, during WITHOUT OVERLAPS));
CREATE TABLE bill (id int PRIMARY KEY, room int, during tstzrange, FOREIGN KEY (room, PERIOD during) REFERENCES stay (room, PERIOD during));
INSERT INTO stay VALUES (1, '[2020-01-01,2020-02-01)', 'a'), (1, '[2020-02-01,2020-03-01)', 'b'), (2, '[2020-01-01,)', 'c'); INSERT INTO bill VALUES (1, 1, '[2020-01-10,2020-02-10)');
CREATE TABLE made (id uuid PRIMARY KEY DEFAULT uuidv7(), i interval, c "char", v text COLLATE pg_unicode_fast); INSERT INTO made (i, c, v) VALUES ('infinity', '\310', 'ß'), ('-infinity', '\001', 'SS');
CREATE TABLE part (id int GENERATED ALWAYS AS IDENTITY, v text, PRIMARY KEY (id)) PARTITION BY RANGE (id); CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (1) TO (3); CREATE TABLE part_2 PARTITION OF part DEFAULT;
INSERT INTO part (v) VALUES ('a'), ('b'), ('c');
`

const newestStream = `
UPDATE virtual SET a = 5 WHERE id = 1; UPDATE virtual SET id = 20 WHERE id = 2; DELETE FROM virtual WHERE id = 3; INSERT INTO virtual (id, a) SELECT i, i FROM generate_series(30, 60) i;
UPDATE all_virtual SET id = 3 WHERE id = 1; DELETE FROM all_virtual WHERE id = 2; INSERT INTO all_virtual (id) SELECT i FROM generate_series(10, 40) i;
UPDATE loose SET w = -5, v = 3; INSERT INTO loose VALUES (3, 1, -3, 100); DELETE FROM loose WHERE id = 2;
UPDATE stay SET guest = 'x' WHERE room = 1; UPDATE stay SET during = '[2020-01-05,)' WHERE room = 2; INSERT INTO stay VALUES (3, '[2021-01-01,2021-01-02)', 'd'); DELETE FROM stay WHERE room = 2;
UPDATE made SET i = '1 day' WHERE c = '\001'; INSERT INTO made (i, c) VALUES (NULL, '\377'); UPDATE part SET v = v || '!'; UPDATE part SET id = DEFAULT WHERE id = 1; DELETE FROM part WHERE id = 2; INSERT INTO part (v) VALUES ('new');
`

// TestRowsAndTypesOfTheNewest: what PostgreSQL 18 brought.
func TestRowsAndTypesOfTheNewest(t *testing.T) {
	t.Parallel()
	s := postgres.Start(t, postgres.Options{Version: "18"})
	fidelity{
		setup: []string{newestSQL}, stream: []string{newestStream}, run: []string{"--pg-dump", s.Path("pg_dump")},
	}.archived(t, s, "newest").check(t)
}
