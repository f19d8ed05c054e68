package cli

import (
	"fmt"
	"io"
	"log/slog"

	"tidemark/internal/config"
)

// newLogger writes records of at least the given level as text or JSON. Secrets in messages and
// values are masked.
func newLogger(w io.Writer, format, level string) *slog.Logger {
	var least slog.Level
	if err := least.UnmarshalText([]byte(level)); err != nil {
		least = slog.LevelInfo
	}
	options := &slog.HandlerOptions{Level: least, ReplaceAttr: maskAttr}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

func maskAttr(_ []string, a slog.Attr) slog.Attr {
	switch v := a.Value.Resolve(); v.Kind() {
	case slog.KindString:
		a.Value = slog.StringValue(config.Mask(v.String()))
	case slog.KindAny:
		switch x := v.Any().(type) {
		case error:
			a.Value = slog.StringValue(config.Mask(x.Error()))
		case fmt.Stringer:
			a.Value = slog.StringValue(config.Mask(x.String()))
		}
	}
	return a
}
