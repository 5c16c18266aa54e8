package lease

import (
	"fmt"
	"os"
)

// ThisProcess names the process as a holder of leases: host/pid. It is for people who look into the database; what fences is the
// epoch.
func ThisProcess() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s/%d", host, os.Getpid())
}
