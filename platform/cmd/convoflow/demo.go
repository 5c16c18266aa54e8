package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/url"

	"github.com/convoflow/convoflow/platform/internal/demo"
)

func runDemo(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(out)
	base := flags.String("url", "http://127.0.0.1:8000", "address of the running platform's API")
	if err := parse(flags, args); err != nil {
		return ignoreHelp(err)
	}
	if u, err := url.Parse(*base); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return usageError{fmt.Errorf("--url must be an address such as http://127.0.0.1:8000, not %q", *base)}
	}
	return demo.Run(ctx, *base, out)
}
