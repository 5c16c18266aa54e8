package gateway

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/convoflow/convoflow/libs/openapi"
)

// route is one operation of the contract as the gateway handles it.
type route struct {
	openapi.Operation
	service string
	body    int64         // maximum size of the request body in bytes
	timeout time.Duration // of the whole exchange; openapi.Streamed has none
}

// isUpload reports whether the request of a streamed exchange has a body.
func (rt route) isUpload() bool { return rt.timeout == openapi.Streamed && rt.ContentType != "" }

const (
	// timeoutMargin is added to the time that the service has: its own timeout is the more precise error.
	timeoutMargin = 5 * time.Second
	multipart     = 1 << 20 // bytes around the file of a form: other fields and boundaries
)

// routes reads the operations of the contract: path, access, and the members x-class, x-body and x-timeout. limits has the limits in
// bytes that x-body names.
func routes(contract []byte, limits map[string]int64) ([]route, error) {
	operations, err := openapi.Parse(contract)
	if err != nil {
		return nil, err
	}
	var table []route
	for _, o := range operations {
		rt := route{Operation: o, body: o.MaxBody, timeout: o.Timeout}
		rt.service, _, _ = strings.Cut(o.ID, ".")
		if o.BodyLimit != "" {
			limit, ok := limits[o.BodyLimit]
			if !ok {
				return nil, fmt.Errorf("%s: the gateway has no limit x-body %s", o.ID, o.BodyLimit)
			}
			rt.body = limit + multipart
		}
		if o.Timeout != openapi.Streamed {
			rt.timeout += timeoutMargin
		}
		table = append(table, rt)
	}
	slices.SortFunc(table, func(a, b route) int { return cmp.Compare(a.ID, b.ID) })
	return table, nil
}

// hasPath reports whether an operation has that path, or one below it.
func hasPath(table []route, prefix string) bool {
	return slices.ContainsFunc(table, func(rt route) bool {
		return rt.Path == prefix || strings.HasPrefix(rt.Path, prefix+"/")
	})
}
