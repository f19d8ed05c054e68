package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"tidemark/internal/config"
	"tidemark/internal/fault"
	"tidemark/objectstore"
	"tidemark/segment"
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

// PrintError prints err as one line "error: …" and a line "hint: …". Secrets are masked.
func PrintError(w io.Writer, err error) {
	fmt.Fprintln(w, "error: "+oneLine(err.Error()))
	fmt.Fprintln(w, "hint: "+oneLine(hintOf(err)))
}

// codeHints say what to do about errors that say no more than what failed.
var codeHints = map[fault.Code]string{
	fault.Usage:       "--help of the command lists its flags and what they take",
	fault.Uncovered:   "restorer list shows what can be restored",
	fault.Damage:      "restorer verify says what else is damaged and which windows are still good",
	fault.Conflict:    "find the other one that writes, and stop one of the two",
	fault.Gap:         "archiver run says what is missing, and with which flag it goes on",
	fault.Unreachable: "check that it is up and can be reached from here, then run this again",
	fault.Finding:     "archiver status and restorer list show how things stand",
}

// storeHints say what to do about errors that come from the store or a file as they are.
var storeHints = []struct {
	is   error
	hint string
}{
	{objectstore.ErrInvalidURL, "write it as file:///path, /path, s3://bucket/prefix?region=eu-central-1 or minio://host:port/bucket/prefix"},
	{fs.ErrPermission, fileHint},
	{syscall.EROFS, fileHint},
	{objectstore.ErrDenied, "check the store's credentials (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or MINIO_ROOT_USER and MINIO_ROOT_PASSWORD) and their rights"},
	{objectstore.ErrUnavailable, "check that the store is up and can be reached from here, then run this again"},
	{objectstore.ErrMismatch, "restorer verify says what else is damaged and which windows are still good"},
	{segment.ErrCorrupt, "restorer verify says what else is damaged and which windows are still good"},
}

const fileHint = "see to it that the user who runs this may read and write there: ls -l shows whose file or folder it is"

func hintOf(err error) string {
	if hint := fault.HintOf(err); hint != "" {
		return hint
	}
	for _, h := range storeHints {
		if errors.Is(err, h.is) {
			return h.hint
		}
	}
	if hint := codeHints[fault.CodeOf(err)]; hint != "" {
		return hint
	}
	return "the lines logged before it say how it came to that; with --log-level debug they say more"
}

// oneLine masks secrets and joins lines, since scripts read what we print line by line.
func oneLine(text string) string {
	return strings.Join(strings.FieldsFunc(config.Mask(text), func(r rune) bool { return r == '\n' || r == '\r' }), " ")
}
