// Command openapi prints the OpenAPI document of the whole platform, for tools that read it from a file.
package main

import (
	"fmt"
	"os"

	"github.com/convoflow/convoflow/api"
)

func main() {
	document, err := api.Merged("0.0.0")
	if err == nil {
		_, err = os.Stdout.Write(document)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
