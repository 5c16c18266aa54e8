// Command release-contract makes the current HTTP contract the one with which later changes are compared. Run it when VERSION
// is released, from the root of the repository.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/convoflow/convoflow/api"
)

const file = "api/released/openapi.json"

func main() {
	if err := release(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func release() error {
	version, err := os.ReadFile("VERSION")
	if err != nil {
		return fmt.Errorf("read the version: %w", err)
	}
	merged, err := api.Merged(strings.TrimSpace(string(version)))
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, merged, "", "  "); err != nil { // for a reviewer of the release's changes
		return fmt.Errorf("indent the contract: %w", err)
	}
	out.WriteByte('\n')
	if err := os.WriteFile(file, out.Bytes(), 0o644); err != nil {
		return fmt.Errorf("keep the contract: %w", err)
	}
	return nil
}
