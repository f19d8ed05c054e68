package cli

import (
	"context"
	"fmt"
	"os"
	"strings"
)

// Completion prints the code that makes a shell complete the program's commands and flags.
type Completion struct {
	Shell string `arg:"" help:"The shell: bash, zsh or fish." enum:"bash,zsh,fish"`
}

// Help implements kong.HelpProvider.
func (*Completion) Help() string {
	return `Prints shell code; load it in the shell's start-up file.

    bash:  source <(restorer completion bash)
    zsh:   source <(restorer completion zsh)
    fish:  restorer completion fish | source`
}

const bashCompletion = "complete -o default -o bashdefault -C PROGRAM NAME\n"

var completionCode = map[string]string{
	"bash": bashCompletion,
	"zsh":  "autoload -U +X bashcompinit && bashcompinit\n" + bashCompletion,
	"fish": `function __complete_NAME
    set -lx COMP_LINE (commandline -cp)
    test -z (commandline -ct)
    and set COMP_LINE "$COMP_LINE "
    PROGRAM
end
complete -f -c NAME -a "(__complete_NAME)"
`,
}

// Run prints the code for the chosen shell. The program itself answers what completes a line.
func (c *Completion) Run(_ context.Context, env *Env) error {
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the program's own path: %w", err)
	}
	quoted := "'" + strings.ReplaceAll(program, "'", `'\''`) + "'"
	_, err = strings.NewReplacer("PROGRAM", quoted, "NAME", env.Name).WriteString(env.Stdout, completionCode[c.Shell])
	return err
}
