package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// ErrUnreachable is returned by Probe if it cannot connect.
var ErrUnreachable = errors.New("nothing answers")

const (
	probeTimeout = 10 * time.Second // a platform that is still starting accepts connections before it responds
	healthLimit  = 64 << 10         // bytes; the platform's response is much shorter
)

// Probe returns the version of the Convoflow platform at base. It fails with ErrUnreachable if nothing listens there. Otherwise
// the error describes the unexpected response.
func Probe(ctx context.Context, base string) (version string, err error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(base, "/")+"/health", nil)
	if err != nil {
		return "", err
	}
	// Redirects are not followed: they would turn the later POSTs into GETs.
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Do(req)
	if dial := (*net.OpError)(nil); errors.As(err, &dial) && dial.Op == "dial" {
		return "", fmt.Errorf("%w: %w", ErrUnreachable, dial)
	}
	if ctx.Err() != nil {
		return "", fmt.Errorf("GET /health was not answered within %s", probeTimeout)
	}
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }()
	var health struct{ Service, Version string }
	err = json.NewDecoder(io.LimitReader(res.Body, healthLimit)).Decode(&health)
	if res.StatusCode != http.StatusOK {
		return "", fmt.Errorf("GET /health was answered %s", res.Status)
	}
	if err != nil || health.Service != "convoflow" {
		return "", errors.New("GET /health was answered by something else")
	}
	return health.Version, nil
}
