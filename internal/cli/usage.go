package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"

	"tidemark/internal/config"
	"tidemark/internal/fault"
)

// usageError turns what kong says into a usage error with a hint.
func usageError(name string, err error, settings *resolver) error {
	if said, ok := errors.AsType[*fault.Error](err); ok {
		return said // without the flag that kong was about to set
	}
	message, hint := err.Error(), fmt.Sprintf("%s --help lists commands and flags", helpCommand(name, err))
	if said, near, ok := strings.Cut(message, ", did you mean "); ok {
		message, hint = said, "did you mean "+near
	}
	return fault.New(fault.Usage, hint, "%s", settings.locate(message))
}

// helpCommand is the command line up to the command that was parsed, for "… --help".
func helpCommand(name string, err error) string {
	parseErr, ok := errors.AsType[*kong.ParseError](err)
	if !ok || parseErr.Context == nil || parseErr.Context.Selected() == nil {
		return name
	}
	return name + " " + strings.Fields(parseErr.Context.Selected().Path())[0]
}

// PrintError prints err as one line "error: …" and, if it has one, a line "hint: …". Secrets are masked.
func PrintError(w io.Writer, err error) {
	fmt.Fprintln(w, "error: "+oneLine(err.Error()))
	if hint := fault.HintOf(err); hint != "" {
		fmt.Fprintln(w, "hint: "+oneLine(hint))
	}
}

// oneLine masks secrets and joins lines, since scripts read what we print line by line.
func oneLine(text string) string {
	return strings.Join(strings.FieldsFunc(config.Mask(text), func(r rune) bool { return r == '\n' || r == '\r' }), " ")
}
