// Package conf reads the settings of a process from its environment. Every setting NAME can also be read from the file that
// NAME_FILE names, as Kubernetes and Compose provide secrets. It reports all problems at once, and refuses to show a value in a
// problem: it may be a secret.
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

// Secret is a setting that is redacted in logs, JSON and errors.
type Secret string

// Reveal returns the secret's text.
func (s Secret) Reveal() string { return string(s) }

// String returns a redacted text.
func (Secret) String() string { return "[secret]" }

// Format writes a redacted text for every verb, also for those that strings do not support.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[secret]") }

// LogValue returns a redacted text for slog.
func (Secret) LogValue() slog.Value { return slog.StringValue("[secret]") }

// MarshalText returns a redacted text for encoders.
func (Secret) MarshalText() ([]byte, error) { return []byte("[secret]"), nil }

// UnmarshalText sets the secret from the environment.
func (s *Secret) UnmarshalText(b []byte) error {
	*s = Secret(b)
	return nil
}

// Checker is a configuration that can validate itself. Each problem names the setting and says what to do.
type Checker interface {
	Check() []string
}

// Error lists every problem of a configuration, one line each, sorted.
type Error struct{ Problems []string }

// Error returns the list.
func (e *Error) Error() string {
	return "wrong settings:\n  - " + strings.Join(e.Problems, "\n  - ")
}

// Check returns the problems of settings as an *Error, or nil. Load has checked what it returns; this is for the code that gets it, as
// settings may have been made or changed by code.
func Check(cfg Checker) error {
	if problems := cfg.Check(); len(problems) > 0 {
		return &Error{Problems: problems}
	}
	return nil
}

// Load returns defaults with the settings of the environment (pairs NAME=value, as from os.Environ). The error is an *Error.
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

// readFiles sets NAME to the content of the file NAME_FILE, without trailing newlines.
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

// parse sets the fields one by one, so that each error belongs to one setting. Problems never quote a value, which may be a
// secret.
func parse(cfg any, vars map[string]string, fields []env.FieldParams) (problems []string) {
	for _, f := range fields {
		value, set := vars[f.Key]
		if f.Key == "" || !set {
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

// Usage lists the settings of a configuration, one per line with its default.
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

// ExportFiles sets the environment variable NAME to the content of the file NAME_FILE for every NAME_FILE with the prefix. It is
// for libraries that read the environment themselves, such as OpenTelemetry. Call it only in main. The error is an *Error.
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
