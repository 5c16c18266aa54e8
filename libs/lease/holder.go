package lease

import (
	"fmt"
	"os"
)

// ThisProcess returns a holder name for this process: host/pid. It is only informative; the epoch is the fencing token.
func ThisProcess() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s/%d", host, os.Getpid())
}
