package evolve

import (
	"fmt"
	"strings"
)

// form is a way in which statements reach the server.
type form struct {
	name      string
	static    bool // the statements stand in PL/pgSQL or SQL code as they are
	block     bool // the statements run within another one
	notInside bool // not within a transaction
	wrap      func(s *session, statements []string) []string
}

var forms = []form{
	{name: "plain", wrap: func(_ *session, statements []string) []string { return statements }},
	{name: "plain", wrap: func(_ *session, statements []string) []string { return statements }},
	{name: "commented", wrap: commented},
	{name: "string", wrap: func(s *session, statements []string) []string { return []string{s.join(statements)} }},
	{name: "DO", static: true, block: true, wrap: func(_ *session, statements []string) []string {
		return []string{block(strings.Join(statements, ";\n") + ";")}
	}},
	{name: "DO, EXECUTE each", block: true, wrap: func(_ *session, statements []string) []string {
		return []string{block(executes(statements))}
	}},
	{name: "DO, EXECUTE string", block: true, wrap: func(s *session, statements []string) []string {
		return []string{block(executes([]string{s.join(statements)}))}
	}},
	{name: "DO, loop", block: true, wrap: loop},
	{name: "DO, exception", block: true, wrap: exception},
	{name: "DO in DO", block: true, wrap: func(_ *session, statements []string) []string {
		return []string{block("EXECUTE $n$" + block(executes(statements)+"\n PERFORM 1;") + "$n$;")}
	}},
	{name: "DO in a string", block: true, wrap: func(s *session, statements []string) []string {
		return []string{s.join([]string{"SELECT ';'", block(executes(statements)), s.plainRow()})}
	}},
	{name: "PL/pgSQL function", static: true, block: true, wrap: func(s *session, statements []string) []string {
		return s.function("plpgsql", "BEGIN\n"+strings.Join(statements, ";\n")+";\nEND")
	}},
	{name: "function, EXECUTE", block: true, wrap: func(s *session, statements []string) []string {
		return s.function("plpgsql", "DECLARE s text := 'x'; BEGIN "+executes(statements)+" END")
	}},
	{name: "SQL function", static: true, block: true, wrap: func(s *session, statements []string) []string {
		return s.function("sql", strings.Join(statements, ";\n"))
	}},
	{name: "procedure that commits", block: true, notInside: true, wrap: procedure},
	{name: "trigger", block: true, wrap: wish},
	{name: "trigger, several", block: true, wrap: func(_ *session, statements []string) []string {
		rows := make([]string, len(statements))
		for i, statement := range statements {
			rows[i] = "($e$" + statement + "$e$)"
		}
		return []string{"INSERT INTO play.wish (statement) VALUES " + strings.Join(rows, ", ")}
	}},
}

// form draws a form that a change can be made in.
func (s *session) form(c change, inTransaction bool) form {
	for attempt := 0; ; attempt++ {
		f := forms[s.rng.IntN(len(forms))]
		if attempt < 5 && !s.w.opts.Inexact && !s.w.opts.Coverage.lacks("form: "+f.name) {
			continue // one that is still missing, if there is one
		}
		switch {
		case f.notInside && inTransaction,
			f.static && strings.Contains(c.statements[0], "PREPARE "), // PL/pgSQL has an EXECUTE of its own
			f.block && c.kind.forms == noBlock:
			continue
		}
		return f
	}
}

// several marks a string of several statements, which only the simple protocol takes.
const several = "/* several; */"

// join makes one string of statements, with what may lie between them.
func (s *session) join(statements []string) string {
	between := []string{";", "; ", ";\n", "\n;\n", "; /* ; it's */ ", ";; ", "; -- a; 'b\n", `; SELECT ';', "version"(), $$;$$; `, "; /* /* nested; */ ; */"}
	var b strings.Builder
	b.WriteString(several)
	for i, statement := range statements {
		if i > 0 {
			b.WriteString(between[s.rng.IntN(len(between))])
		}
		b.WriteString(statement)
	}
	b.WriteString([]string{"", ";", " ; ; ", "; -- end"}[s.rng.IntN(4)])
	return b.String()
}

func commented(s *session, statements []string) []string {
	made := make([]string, len(statements))
	for i, statement := range statements {
		made[i] = []string{"/* first; */ ", "-- it's; first\n", "\n\t ", "/* /* deep; */ \" ' */"}[s.rng.IntN(4)] + statement +
			[]string{" -- the end; of it", " /* ; */", ";", "\n;\n-- $$"}[s.rng.IntN(4)]
	}
	return made
}

// block is an anonymous block around PL/pgSQL statements.
func block(body string) string {
	tag := "$form$"
	if strings.Contains(body, tag) {
		tag = "$outer$"
	}
	return "DO " + tag + " BEGIN " + body + " END " + tag
}

func executes(statements []string) string {
	var b strings.Builder
	for _, statement := range statements {
		b.WriteString("EXECUTE $e$" + statement + "$e$; ")
	}
	return b.String()
}

func loop(_ *session, statements []string) []string {
	return []string{"DO $form$ DECLARE s text; BEGIN FOREACH s IN ARRAY ARRAY[$e$" + strings.Join(statements, "$e$, $e$") +
		"$e$] LOOP EXECUTE s; PERFORM count(*) FROM play.base; END LOOP; END $form$"}
}

// exception makes the change, takes it back, and makes it again.
func exception(_ *session, statements []string) []string {
	return []string{block("BEGIN " + executes(statements) + " RAISE EXCEPTION 'taken back'; EXCEPTION WHEN raise_exception THEN " +
		executes(statements) + " END;")}
}

// function makes a function of a body, calls it and drops it.
func (s *session) function(language, body string) []string {
	s.names++
	name := fmt.Sprintf("play.form%d_%d", s.number, s.names)
	return []string{
		"CREATE FUNCTION " + name + "() RETURNS void LANGUAGE " + language + " AS $form$" + body + "$form$",
		[]string{"SELECT " + name + "()", "SELECT count(*) FROM (SELECT " + name + "() OFFSET 0) x", "DO $form$ BEGIN PERFORM " + name + "(); END $form$"}[s.rng.IntN(3)],
		"DROP FUNCTION " + name,
	}
}

// procedure commits between two statements.
func procedure(s *session, statements []string) []string {
	s.names++
	name := fmt.Sprintf("play.form%d_%d", s.number, s.names)
	body := "BEGIN " + strings.Join(strings.SplitAfter(executes(statements), "$e$; "), " COMMIT; ") + " END"
	return []string{
		"CREATE PROCEDURE " + name + "() LANGUAGE plpgsql AS $form$" + body + "$form$", "CALL " + name + "()", "DROP PROCEDURE " + name,
	}
}

func wish(_ *session, statements []string) []string {
	made := make([]string, len(statements))
	for i, statement := range statements {
		made[i] = "INSERT INTO play.wish (statement) VALUES ($e$" + statement + "$e$)"
	}
	return made
}
