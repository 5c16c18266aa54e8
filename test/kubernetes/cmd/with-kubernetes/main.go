// Command with-kubernetes runs a command with a control plane of Kubernetes: with-kubernetes -- kubectl get nodes
//
// KUBECONFIG has an administrator's credentials, PATH has kubectl first, and TEST_KUBERNETES names the directory of
// scripts/kubernetes. It forwards SIGINT and SIGTERM to the command, and exits with the command's exit code. The logs of the
// control plane go to the file that -log names.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/test/internal/program"
	"github.com/convoflow/convoflow/test/kubernetes"
)

const startTimeout = 5 * time.Minute

const exitUsage = 2

func main() {
	tools := flag.String("tools", ".tools/kubernetes", "the directory of scripts/kubernetes")
	log := flag.String("log", ".tools/kubernetes.log", "where to write the logs at the end")
	flag.Parse()
	if flag.NArg() == 0 {
		fmt.Fprintln(os.Stderr, "usage: with-kubernetes [-tools dir] [-log file] -- command [argument…]")
		os.Exit(exitUsage)
	}
	code, err := run(*tools, *log, flag.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, "with-kubernetes:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

func run(tools, log string, argv []string) (code int, err error) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if tools, err = filepath.Abs(tools); err != nil {
		return 1, err
	}
	dir, err := os.MkdirTemp("", "convoflow-kubernetes-")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	took := clock.Stopwatch()
	c, err := kubernetes.Start(ctx, dir, tools)
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.WriteFile(log, []byte(c.Log()), 0o600), c.Close()) }()
	fmt.Fprintf(os.Stderr, "Kubernetes serves after %s\n", took().Round(100*time.Millisecond))
	return program.Run(argv, append(os.Environ(), "KUBECONFIG="+c.Kubeconfig(), kubernetes.ToolsVariable+"="+tools,
		"PATH="+filepath.Join(tools, "bin")+string(filepath.ListSeparator)+os.Getenv("PATH")), signals)
}
