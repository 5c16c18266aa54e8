package gateway

import (
	"net/http"
	"sync"
)

// requests are those that a fake service got.
type requests struct {
	mu  sync.Mutex
	all []received
}

type received struct{ name, body, cookie string }

func (s *requests) add(r *http.Request, body string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, received{r.Method + " " + r.URL.Path, body, r.Header.Get("Cookie")})
}

// count returns how many came with that method and path.
func (s *requests) count(name string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.all {
		if r.name == name {
			n++
		}
	}
	return n
}

// last returns the body of the last one with that method and path.
func (s *requests) last(name string) (body string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.all {
		if r.name == name {
			body = r.body
		}
	}
	return body
}

// cookies returns all cookies that arrived.
func (s *requests) cookies() (found []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.all {
		if r.cookie != "" {
			found = append(found, r.cookie)
		}
	}
	return found
}
