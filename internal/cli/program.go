// Package cli is the command-line plumbing that both binaries share: parsing with flags, environment
// and file in order, logging, signals, exit codes, errors with hints, tables, JSON and progress.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/alecthomas/kong"
	kongcompletion "github.com/jotaen/kong-completion"

	"tidemark/internal/fault"
)

// Globals are the flags of every command. Embed it in the grammar.
type Globals struct {
	Config     string           `help:"YAML file with settings: any flag's name is a key." placeholder:"FILE"`
	Archive    string           `help:"Where the archive is: file:///path, a plain path, s3://bucket/prefix or minio://host:port/bucket/prefix." placeholder:"URL"`
	LogFormat  string           `help:"Format of log lines on standard error: text or json." enum:"text,json" default:"text" placeholder:"text"`
	LogLevel   string           `help:"Least level to log: debug, info, warn or error." enum:"debug,info,warn,error" default:"info" placeholder:"info"`
	CPUProfile string           `name:"cpu-profile" help:"Write a CPU profile of the command to this file, for go tool pprof." placeholder:"FILE"`
	Version    kong.VersionFlag `help:"Print the version."`
}

// Common returns g: a grammar that embeds Globals satisfies Grammar.
func (g *Globals) Common() *Globals { return g }

// Grammar is a pointer to a struct that embeds Globals and has the commands as fields, as kong reads
// them. Each command has a method Run(context.Context, *cli.Env) error.
type Grammar interface{ Common() *Globals }

// Output is embedded by commands that report.
type Output struct {
	Output string `short:"o" help:"Format of the report on standard output: table or json." enum:"table,json" default:"table" placeholder:"table"`
}

// JSON reports whether JSON was asked for.
func (o Output) JSON() bool { return o.Output == "json" }

// Program is a binary: its name, what it says of itself, its grammar, and the process around it.
type Program struct {
	Name    string
	Help    string
	Grammar Grammar

	Args   []string // without the program's name
	Getenv func(string) (string, bool)
	Stdout io.Writer
	Stderr io.Writer
	Now    func() time.Time
}

// Main runs the program with the process's arguments and ends the process with the contract's exit code.
func Main(name, help string, grammar Grammar) {
	p := Program{
		Name: name, Help: help, Grammar: grammar,
		Args: os.Args[1:], Getenv: os.LookupEnv, Stdout: os.Stdout, Stderr: os.Stderr, Now: time.Now,
	}
	os.Exit(int(p.Run(context.Background())))
}

// Run parses, runs the chosen command and returns the exit code. Errors have been printed. Signals of
// the process are handled while the command runs.
func (p Program) Run(ctx context.Context) (code fault.Code) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case exit:
			code = fault.Code(r)
		default:
			panic(r)
		}
	}()
	settings := &resolver{getenv: p.Getenv, known: Flags(p.Grammar)}
	parser, err := p.parser(settings)
	if err != nil {
		return p.fail(fmt.Errorf("the commands are declared wrong: %w", err))
	}
	kongcompletion.Register(parser)
	parsed, err := parser.Parse(p.Args)
	if err != nil {
		return p.fail(usageError(p.Name, err, settings))
	}
	return p.execute(ctx, parsed)
}

// exit is panicked with where kong would end the process (--help, --version) and recovered in Run.
type exit int

func (p Program) parser(r *resolver) (*kong.Kong, error) {
	return kong.New(p.Grammar,
		kong.Name(p.Name),
		kong.Description(p.Help),
		kong.Vars{"version": p.Name + " " + Version()},
		kong.Writers(p.Stdout, p.Stderr),
		kong.Exit(func(code int) { panic(exit(code)) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true, FlagsLast: true, WrapUpperBound: 110}),
		kong.ExplicitGroups([]kong.Group{{Key: "target", Title: "Target, at most one:"}}),
		kong.Resolvers(r),
	)
}

func (p Program) execute(ctx context.Context, parsed *kong.Context) fault.Code {
	g := p.Grammar.Common()
	signals := watchSignals(ctx)
	defer signals.stop()
	env := &Env{
		Globals: g, Name: p.Name,
		Log:    newLogger(p.Stderr, g.LogFormat, g.LogLevel),
		Stdout: p.Stdout, Stderr: p.Stderr, Now: p.Now,
		signals: signals,
	}
	parsed.BindTo(signals.ctx, (*context.Context)(nil))
	stop, err := profile(g.CPUProfile)
	if err != nil {
		return p.fail(err)
	}
	err = parsed.Run(env)
	if failed := stop(); err == nil {
		err = failed
	}
	if signals.interrupted() && fault.CodeOf(err) != fault.Damage {
		return p.interrupted(err)
	}
	if err != nil {
		return p.fail(err)
	}
	return fault.OK
}

// interrupted prints what an interrupted command said, unless it only says that it was interrupted.
func (p Program) interrupted(err error) fault.Code {
	if err != nil && !errors.Is(err, context.Canceled) {
		p.fail(err)
	} else {
		fmt.Fprintln(p.Stderr, "interrupted")
	}
	return fault.Interrupted
}

// fail prints err as one line, and its hint as another, and returns its exit code.
func (p Program) fail(err error) fault.Code {
	PrintError(p.Stderr, err)
	return fault.CodeOf(err)
}
