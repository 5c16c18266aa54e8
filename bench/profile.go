package bench

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/convoflow/convoflow/bench/internal/load"
)

const profileLength = 10 * time.Second

// profile stores a CPU profile of a service under full load if -profile is set. It is a separate run, because profiling takes some
// CPU time. admin is the address of the service's admin port.
func (b *bench) profile(ctx context.Context, service, admin string, fullLoad func(time.Duration) error) error {
	if !b.Profile {
		return nil
	}
	b.printf("  profiling %s for %.0f s", service, profileLength.Seconds())
	profiled := make(chan error, 1)
	file := filepath.Join(b.Results, service+".pprof")
	go func() {
		status, body, err := fetch(ctx, load.Target{URL: fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%.0f", admin, profileLength.Seconds())})
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("the admin port returned %d: %s", status, body)
		}
		profiled <- errors.Join(err, os.MkdirAll(b.Results, 0o755), os.WriteFile(file, body, 0o600))
	}()
	if err := errors.Join(fullLoad(profileLength+warmUp), <-profiled); err != nil {
		return fmt.Errorf("profile %s: %w", service, err)
	}
	b.printf("  the profile is in %s: go tool pprof -top %s", file, file)
	return nil
}
