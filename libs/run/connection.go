package run

import (
	"context"
	"math/rand/v2"
	"net"
	"net/http"
	"time"
)

type ageKey struct{}

const (
	maxLeave     = 2 * time.Second
	quiet        = 300 * time.Millisecond // after which a connection is not reused just now
	leaveChecked = 20 * time.Millisecond
)

// endConnections makes the server close a connection after the first response from an age on, or when it stops. The age varies by a
// tenth: connections that were opened together do not close together. HTTP/2 gets a GOAWAY, so its other streams finish. 0 is no
// limit of the age.
func (s *Server) endConnections(age time.Duration) {
	inner := s.server.ConnContext
	s.server.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		if inner != nil {
			ctx = inner(ctx, c)
		}
		if age == 0 {
			return ctx
		}
		return context.WithValue(ctx, ageKey{}, time.Now().Add(age-rand.N(age/10)))
	}
	handler := s.server.Handler
	s.server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		now := time.Now()
		s.active.Store(now.UnixNano())
		defer func() { s.active.Store(time.Now().UnixNano()) }()
		if end, ok := r.Context().Value(ageKey{}).(time.Time); ok && now.After(end) || Draining(r.Context()).Err() != nil {
			w.Header().Set("Connection", "close")
		}
		handler.ServeHTTP(w, r)
	})
}

// leave waits until no connection is used any more, for at most the time most. Each client learns from its next response that its
// connection ends. http.Server.Shutdown closes idle connections at once, and a client that sends a request at this moment cannot know
// whether it was handled.
func (s *Server) leave(most time.Duration) {
	tick := time.NewTicker(leaveChecked)
	defer tick.Stop()
	for end := time.Now().Add(most); time.Now().Before(end) && time.Since(time.Unix(0, s.active.Load())) < quiet; {
		<-tick.C
	}
}
