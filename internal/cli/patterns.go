package cli

import (
	"fmt"
	"strings"

	"github.com/alecthomas/kong"
)

// Patterns is the value of a repeatable --table: patterns with commas between them, where a comma in double
// quotes, or behind a backslash, belongs to a name.
type Patterns []string

// Decode implements kong.MapperValue.
func (p *Patterns) Decode(ctx *kong.DecodeContext) error {
	token := ctx.Scan.Pop()
	switch v := token.Value.(type) {
	case string:
		*p = append(*p, splitPatterns(v)...)
	case []any: // a list of the configuration file
		for _, one := range v {
			*p = append(*p, fmt.Sprint(one))
		}
	default:
		return fmt.Errorf("missing value, expecting a pattern such as public.orders")
	}
	return nil
}

func splitPatterns(text string) []string {
	var list []string
	var b strings.Builder
	quoted := false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && i+1 < len(text) && text[i+1] == ',':
			i++
			b.WriteByte(',')
		case c == ',' && (!quoted || !strings.Contains(text[i:], `"`)): // a quote that is never closed is none
			list = append(list, b.String())
			b.Reset()
		default:
			quoted = quoted != (c == '"')
			b.WriteByte(c)
		}
	}
	return append(list, b.String())
}
