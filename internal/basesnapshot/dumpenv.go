package basesnapshot

import (
	"net"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/internal/fault"
)

// dumpVariables are libpq's environment variables for parameters that pgconn keeps in a form that can't be
// given on, by the parameter's name. Others are taken from pgconn's configuration.
var dumpVariables = map[string]string{
	"sslmode": "PGSSLMODE", "sslcert": "PGSSLCERT", "sslkey": "PGSSLKEY", "sslrootcert": "PGSSLROOTCERT", "sslcrl": "PGSSLCRL",
	"sslcrldir": "PGSSLCRLDIR", "sslsni": "PGSSLSNI", "sslnegotiation": "PGSSLNEGOTIATION", "sslcertmode": "PGSSLCERTMODE",
	"ssl_min_protocol_version": "PGSSLMINPROTOCOLVERSION", "ssl_max_protocol_version": "PGSSLMAXPROTOCOLVERSION",
	"channel_binding": "PGCHANNELBINDING", "gssencmode": "PGGSSENCMODE", "krbsrvname": "PGKRBSRVNAME", "gsslib": "PGGSSLIB",
	"connect_timeout": "PGCONNECT_TIMEOUT", "require_auth": "PGREQUIREAUTH", "requirepeer": "PGREQUIREPEER",
	"service": "PGSERVICE", "servicefile": "PGSERVICEFILE", "min_protocol_version": "PGMINPROTOCOLVERSION", "max_protocol_version": "PGMAXPROTOCOLVERSION",
}

// dumpOptions are settings that pg_dump leaves to the database: constants of type money in defaults, checks
// and views are read back under lc_monetary C, and all constants under standard_conforming_strings.
const dumpOptions = "-c lc_monetary=C -c standard_conforming_strings=on"

// dumpEnv gives pg_dump's environment: base (as os.Environ gives it) with the connection's parameters. The
// peer is the server that conn reached, which of several hosts is the one that holds the snapshot.
func dumpEnv(base []string, dsn string, cfg *pgconn.Config, peer net.Addr) ([]string, error) {
	set := map[string]string{
		"PGUSER": cfg.User, "PGDATABASE": cfg.Database, "PGHOST": cfg.Host, "PGPORT": strconv.Itoa(int(cfg.Port)),
		"PGAPPNAME": applicationName, "PGTARGETSESSIONATTRS": "", "PGHOSTADDR": "", "LC_ALL": "C", "PGCLIENTENCODING": "",
		// With a service's or the environment's own, which pgconn has read: the last of two wins.
		"PGOPTIONS": strings.TrimSpace(cfg.RuntimeParams["options"] + " " + dumpOptions),
	}
	if cfg.Password != "" {
		set["PGPASSWORD"] = cfg.Password
	}
	params, err := parseConninfo(dsn)
	if err != nil {
		return nil, fault.New(fault.Usage, "a DSN looks like postgres://user@host:5432/database or host=... dbname=...", "the source's DSN can't be read")
	}
	for _, p := range params {
		if p.name == "sslpassword" {
			return nil, fault.New(fault.Usage, "use a key file without a passphrase, readable by the archiver only", "pg_dump can't be given sslpassword: libpq has no environment variable for it")
		}
		if v, ok := dumpVariables[p.name]; ok {
			set[v] = p.value
		}
		if p.name == "ssl" && p.value == "true" {
			set["PGSSLMODE"] = "require"
		}
	}
	if tcp, ok := peer.(*net.TCPAddr); ok {
		set["PGHOSTADDR"], set["PGPORT"] = tcp.IP.String(), strconv.Itoa(tcp.Port)
		set["PGHOST"] = hostOf(cfg, tcp)
	}
	var env []string
	for _, e := range base {
		name, _, _ := strings.Cut(e, "=")
		if _, ok := set[name]; !ok {
			env = append(env, e)
		}
	}
	for name, value := range set {
		if value != "" {
			env = append(env, name+"="+value)
		}
	}
	return env, nil
}

// dumpTarget gives the argument that makes pg_dump's explicit target win over a service's: "" where env
// names no service. It holds no secret.
func dumpTarget(env []string) string {
	names := map[string]string{"PGHOST": "host", "PGHOSTADDR": "hostaddr", "PGPORT": "port", "PGUSER": "user", "PGDATABASE": "dbname", "PGOPTIONS": "options"}
	var conninfo []string
	service := false
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		service = service || name == "PGSERVICE" && value != ""
		if n := names[name]; n != "" {
			conninfo = append(conninfo, n+"='"+strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value)+"'")
		}
	}
	if !service {
		return ""
	}
	return "--dbname=" + strings.Join(conninfo, " ")
}

// hostOf finds the name under which the peer was reached; certificates are checked against it.
func hostOf(cfg *pgconn.Config, peer *net.TCPAddr) string {
	names := map[string]bool{cfg.Host: true}
	for _, f := range cfg.Fallbacks {
		names[f.Host] = true
	}
	if len(names) == 1 {
		return cfg.Host
	}
	for name := range names {
		if addrs, err := net.LookupHost(name); err == nil {
			for _, a := range addrs {
				if ip := net.ParseIP(a); ip != nil && ip.Equal(peer.IP) {
					return name
				}
			}
		}
	}
	return peer.IP.String()
}
