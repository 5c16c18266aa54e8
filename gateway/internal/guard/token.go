package guard

import (
	"net/http"

	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/openapi"
	"github.com/convoflow/convoflow/libs/rpc"
)

// CallerHandler serves the request of an authenticated caller.
type CallerHandler func(w http.ResponseWriter, r *http.Request, c identity.Caller)

// Require passes only callers with that access to next. It refuses others before the body is read.
func Require(authenticate rpc.Authenticator, access openapi.Access, next CallerHandler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		caller, err := authenticate(r)
		if err == nil && access == openapi.Admin && !caller.IsAdmin() {
			err = fault.New(fault.Forbidden, "admin_only", "Only an admin may do this")
		}
		if err != nil {
			refuse(w, r, err)
			return
		}
		next(w, r, caller)
	})
}

// Signed passes requests that carry a signature of their body. The service, which has the secret, verifies it.
func Signed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Pabbly-Signature") == "" {
			refuse(w, r, fault.New(fault.Unauthenticated, "not_signed", "Sign the body: X-Pabbly-Signature is its HMAC-SHA256 in hexadecimal"))
			return
		}
		next.ServeHTTP(w, r)
	})
}
