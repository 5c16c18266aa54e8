// Command release-contract stores the current HTTP contract as the released one, which later changes are compared with. Run it from
// the root of the repository when VERSION is released.
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
	if err := json.Indent(&out, merged, "", "  "); err != nil { // indented, so that reviewers can read what a release changes
		return fmt.Errorf("indent the contract: %w", err)
	}
	out.WriteByte('\n')
	if err := os.WriteFile(file, out.Bytes(), 0o644); err != nil {
		return fmt.Errorf("write the contract: %w", err)
	}
	return nil
}
