// Package conf reads the settings of a process from its environment. Every setting NAME can also come from the file that
// NAME_FILE names, which is how Kubernetes and Compose hand over secrets. All problems are reported at once.
package conf

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/caarlos0/env/v11"
)

// Secret is a setting that never shows itself: not in logs, not in JSON, not in errors.
type Secret string

// Reveal returns the secret's text.
func (s Secret) Reveal() string { return string(s) }

// String hides the secret.
func (Secret) String() string { return "[secret]" }

// Format hides the secret from every verb, also from those that texts do not have.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[secret]") }

// LogValue hides the secret from slog.
func (Secret) LogValue() slog.Value { return slog.StringValue("[secret]") }

// MarshalText hides the secret from encoders.
func (Secret) MarshalText() ([]byte, error) { return []byte("[secret]"), nil }

// UnmarshalText sets the secret from the environment.
func (s *Secret) UnmarshalText(b []byte) error {
	*s = Secret(b)
	return nil
}

// Checker is a configuration that knows what else makes it wrong. Problem texts name the setting and what to do.
type Checker interface {
	Check() []string
}

// Error lists every problem of a configuration, one line each, sorted.
type Error struct{ Problems []string }

// Error is the list.
func (e *Error) Error() string {
	return "wrong settings:\n  - " + strings.Join(e.Problems, "\n  - ")
}

// Load fills a configuration that starts from its defaults with the environment (pairs NAME=value, as os.Environ gives
// them). The error is an *Error.
func Load[T Checker](defaults T, environ []string) (T, error) {
	cfg := defaults
	fields, err := env.GetFieldParams(&cfg)
	if err != nil {
		return cfg, &Error{Problems: []string{err.Error()}}
	}
	vars := env.ToMap(environ)
	problems := readFiles(vars, fields)
	problems = append(problems, parse(&cfg, vars, fields)...)
	problems = append(problems, cfg.Check()...)
	if len(problems) > 0 {
		slices.Sort(problems)
		return cfg, &Error{Problems: slices.Compact(problems)}
	}
	return cfg, nil
}

// readFiles puts the content of each NAME_FILE into NAME. A final newline is not part of the value.
func readFiles(vars map[string]string, fields []env.FieldParams) (problems []string) {
	for _, f := range fields {
		file := vars[f.Key+"_FILE"]
		if f.Key == "" || file == "" {
			continue
		}
		if vars[f.Key] != "" {
			problems = append(problems, fmt.Sprintf("%s and %s_FILE are both set: keep one", f.Key, f.Key))
			continue
		}
		b, err := os.ReadFile(file)
		if err != nil {
			problems = append(problems, fmt.Sprintf("%s_FILE: %v", f.Key, err))
			continue
		}
		vars[f.Key] = strings.TrimRight(string(b), "\r\n")
	}
	return problems
}

// parse sets the fields one after the other, so that each error belongs to one setting. Problems never show a value: it may
// be a secret.
func parse(cfg any, vars map[string]string, fields []env.FieldParams) (problems []string) {
	for _, f := range fields {
		value, there := vars[f.Key]
		if f.Key == "" || !there {
			continue
		}
		err := env.ParseWithOptions(cfg, env.Options{Environment: map[string]string{f.Key: value}})
		if err == nil {
			continue
		}
		kind := kindName(nil)
		var all env.AggregateError
		var wrong env.ParseError
		if errors.As(err, &all) && len(all.Errors) > 0 && errors.As(all.Errors[0], &wrong) {
			kind = kindName(wrong.Type)
		}
		problems = append(problems, fmt.Sprintf("%s is not a valid %s", f.Key, kind))
	}
	return problems
}

func kindName(t reflect.Type) string {
	switch {
	case t == nil:
		return "value"
	case t.String() == "time.Duration":
		return "duration, such as 30s or 5m"
	case t == reflect.TypeFor[slog.Level]():
		return "log level: debug, info, warn or error"
	case t.Kind() == reflect.Bool:
		return "boolean: true or false"
	case t.Kind() >= reflect.Int && t.Kind() <= reflect.Uint64:
		return "whole number"
	default:
		return t.String()
	}
}

// Usage lists the settings of a configuration, one NAME a line with its default.
func Usage[T any](defaults T) string {
	var b strings.Builder
	usage(&b, reflect.ValueOf(defaults), "")
	return b.String()
}

func usage(b *strings.Builder, v reflect.Value, prefix string) {
	for f, value := range v.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("env"), ",")
		switch {
		case name != "" && name != "-":
			fmt.Fprintf(b, "  %-34s %v\n", prefix+name, value.Interface())
		case reflect.Indirect(value).Kind() == reflect.Struct && name != "-": // a nil pointer has no settings
			usage(b, reflect.Indirect(value), prefix+f.Tag.Get("envPrefix"))
		}
	}
}

// ExportFiles sets NAME in the process' environment from NAME_FILE for every name with that prefix, for libraries that
// read the environment themselves, such as OpenTelemetry's. Call it in main only. The error is an *Error.
func ExportFiles(prefix string) error {
	var problems []string
	for _, pair := range os.Environ() {
		name, file, _ := strings.Cut(pair, "=")
		base, isFile := strings.CutSuffix(name, "_FILE")
		if !isFile || !strings.HasPrefix(name, prefix) || file == "" {
			continue
		}
		raw, err := os.ReadFile(file)
		if err == nil {
			err = os.Setenv(base, strings.TrimRight(string(raw), "\r\n"))
		}
		if err != nil {
			problems = append(problems, fmt.Sprintf("%s: %v", name, err))
		}
	}
	if len(problems) > 0 {
		return &Error{Problems: problems}
	}
	return nil
}
