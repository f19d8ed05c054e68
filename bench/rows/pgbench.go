package rows

import (
	"context"
	"fmt"
	"regexp"
	"strconv"

	"tidemark/bench/lab"
)

// benchSource makes a source with pgbench's tables in it and in the archive's base snapshot.
func (b *Bench) benchSource(ctx context.Context, scale int, settings ...map[string]string) (*lab.Source, error) {
	server, err := b.Server(settings...)
	if err != nil {
		return nil, err
	}
	const database = "bank"
	if err := server.Exec(ctx, "postgres", "CREATE DATABASE "+database+" TEMPLATE template0"); err != nil {
		return nil, err
	}
	b.Logf("  pgbench -i -s %d", scale)
	if err := server.RunProgram("pgbench", "--initialize", "--quiet", "--scale", fmt.Sprint(scale), server.SocketDSN(database)); err != nil {
		return nil, err
	}
	// The history has no key; nothing is ever updated there.
	for _, sql := range []string{"ALTER TABLE pgbench_history REPLICA IDENTITY FULL", bankProcedure} {
		if err := server.Exec(ctx, database, sql); err != nil {
			return nil, err
		}
	}
	return b.Adopt(ctx, server, database)
}

// runPgbench commits so many of pgbench's own transactions, by four clients.
func runPgbench(src *lab.Source, transactions int) error {
	return src.Server.RunProgram("pgbench", "--client", "4", "--jobs", "2", "--protocol", "prepared", "--no-vacuum",
		"--transactions", fmt.Sprint(transactions/4), src.Server.SocketDSN(src.Database))
}

var processed = regexp.MustCompile(`number of transactions actually processed: (\d+)`)

// timedPgbench runs pgbench -N for some seconds, at a rate or (0) as fast as it can, and returns its commits.
func timedPgbench(src *lab.Source, seconds, rate int) (int, error) {
	args := []string{"--skip-some-updates", "--client", "4", "--jobs", "2", "--protocol", "prepared", "--no-vacuum", "--time", fmt.Sprint(seconds)}
	if rate > 0 {
		args = append(args, "--rate", fmt.Sprint(rate))
	}
	out, err := src.Server.ProgramOutput("pgbench", append(args, src.Server.SocketDSN(src.Database))...)
	if err != nil {
		return 0, fmt.Errorf("pgbench: %w: %s", err, out)
	}
	m := processed.FindStringSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("pgbench: %s", out)
	}
	return strconv.Atoi(m[1])
}

// bankProcedure commits pgbench's transactions without a client in between, which would take most of the time.
const bankProcedure = `
CREATE PROCEDURE tpcb(n int, scale int) LANGUAGE plpgsql AS $p$
DECLARE a int; b int; t int; d int;
BEGIN
	FOR i IN 1..n LOOP
		a := 1 + floor(random() * 100000 * scale); b := 1 + floor(random() * scale); t := 1 + floor(random() * 10 * scale);
		d := floor(random() * 10001) - 5000;
		UPDATE pgbench_accounts SET abalance = abalance + d WHERE aid = a;
		PERFORM abalance FROM pgbench_accounts WHERE aid = a;
		UPDATE pgbench_tellers SET tbalance = tbalance + d WHERE tid = t;
		UPDATE pgbench_branches SET bbalance = bbalance + d WHERE bid = b;
		INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (t, b, a, d, CURRENT_TIMESTAMP);
		COMMIT;
	END LOOP;
END $p$`
