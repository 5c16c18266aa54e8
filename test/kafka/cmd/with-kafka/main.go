// Command with-kafka runs a command with Apache Kafka: with-kafka -clusters 3 -- go test ./...
//
// TEST_KAFKA_CLUSTERS has the addresses of independent clusters of one broker, which libs/bus/bustest hands out to one test at a
// time, and TEST_KAFKA_JARS the jars for tests that start clusters of their own. It forwards SIGINT and SIGTERM to the command,
// and exits with the command's exit code.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/convoflow/convoflow/libs/bus/bustest"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/test/internal/program"
	"github.com/convoflow/convoflow/test/kafka"
)

const startTimeout = 5 * time.Minute

const exitUsage = 2

func main() {
	clusters := flag.Int("clusters", 1, "how many clusters of one broker to start: as many tests run at the same time")
	jars := flag.String("jars", ".tools/kafka", "the directory of Kafka's jars")
	flag.Parse()
	if flag.NArg() == 0 {
		fmt.Fprintln(os.Stderr, "usage: with-kafka [-clusters n] [-jars dir] -- command [argument…]")
		os.Exit(exitUsage)
	}
	code, err := run(*clusters, *jars, flag.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, "with-kafka:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

func run(n int, jars string, argv []string) (code int, err error) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if jars, err = filepath.Abs(jars); err != nil {
		return 1, err
	}
	dir, err := os.MkdirTemp("", "convoflow-kafka-")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	took, ports := clock.Stopwatch(), program.NewPorts()
	var addresses []string
	for i := range n {
		c, err := kafka.Start(ctx, kafka.Options{Dir: filepath.Join(dir, fmt.Sprint(i)), Jars: jars, Brokers: 1, Ports: ports})
		if err != nil {
			return 1, err
		}
		defer func() { err = errors.Join(err, c.Close()) }()
		addresses = append(addresses, c.Addresses()[0])
		fmt.Fprintf(os.Stderr, "Kafka %d of %d serves at %s after %s\n", i+1, n, addresses[i], took().Round(100*time.Millisecond))
	}
	return program.Run(argv, append(os.Environ(),
		bustest.ClustersVariable+"="+strings.Join(addresses, " "), bustest.LocksVariable+"="+dir, kafka.JarsVariable+"="+jars), signals)
}
