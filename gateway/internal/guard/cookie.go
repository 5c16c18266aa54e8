package guard

import (
	"context"
	"net/http"
	"net/url"

	"github.com/convoflow/convoflow/libs/fault"
)

// The cookies of the console. The prefixes make browsers refuse them from other hosts and over plain http, where they are left out.
const (
	accessCookie  = "at"
	refreshCookie = "rt"
	hostPrefix    = "__Host-"
	securePrefix  = "__Secure-" // __Host- requires Path=/
)

// AccessCookie and RefreshCookie are the names of the cookies for the connection of a request.
func AccessCookie(r *http.Request) string  { return cookieName(r, hostPrefix, accessCookie) }
func RefreshCookie(r *http.Request) string { return cookieName(r, securePrefix, refreshCookie) }

// cookieName has the port of the request's host, if that names one: a browser sends the cookies of a host to all of its ports, so that
// two platforms on one host would log each other out.
func cookieName(r *http.Request, prefix, name string) string {
	if IsSecure(r) {
		name = prefix + name
	}
	if port := (&url.URL{Host: r.Host}).Port(); port != "" {
		name += "-" + port
	}
	return name
}

// IsSecure reports whether the browser's connection is https. It is valid behind Edge.
func IsSecure(r *http.Request) bool { return r.Header.Get(forwardedProto) == "https" }

type refreshKey struct{}

// Refresh returns the refresh token of the cookie, or "". It is valid behind Cookies.
func Refresh(r *http.Request) string {
	text, _ := r.Context().Value(refreshKey{}).(string)
	return text
}

// crossOrigin refuses requests that another site makes a browser send.
var crossOrigin = http.NewCrossOriginProtection()

// Cookies replaces the cookies of a request by what they mean: the access token becomes the header Authorization, unless there is
// one, and the refresh token is available from Refresh. It ignores the cookies of a request that another site may have made:
// the request continues without a caller. No cookie reaches next.
func Cookies(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header["Cookie"] != nil {
			access, refresh := cookie(r, AccessCookie(r)), cookie(r, RefreshCookie(r))
			delete(r.Header, "Cookie")
			if (access != "" || refresh != "") && isOurs(r) {
				if access != "" && r.Header["Authorization"] == nil {
					r.Header["Authorization"] = []string{"Bearer " + access}
				}
				if refresh != "" {
					r = r.WithContext(context.WithValue(r.Context(), refreshKey{}, refresh))
				}
			}
		}
		next.ServeHTTP(w, r)
	})
}

// cookie returns the value of the only cookie with that name. Several of them were not set by this platform alone.
func cookie(r *http.Request, name string) string {
	if found := r.CookiesNamed(name); len(found) == 1 {
		return found[0].Value
	}
	return ""
}

// isOurs reports whether the page that made the request is of this origin. A read may come without any sign of that, from the
// address bar or from a browser that sends none over plain http: its response is readable for nobody else. A write must have one.
func isOurs(r *http.Request) bool {
	site, origin := r.Header.Get("Sec-Fetch-Site"), r.Header.Get("Origin")
	if origin != "" && !isOrigin(origin, r.Host) {
		return false
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return site == "" || site == "same-origin" || site == "none"
	}
	return crossOrigin.Check(r) == nil && (site == "same-origin" || site == "" && origin != "")
}

func isOrigin(origin, host string) bool {
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && u.Host == host
}

// SameOrigin refuses requests that another site makes a browser send, also without a cookie: otherwise a page could log its
// visitor in as somebody else.
func SameOrigin(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if crossOrigin.Check(r) != nil {
			refuse(w, r, fault.New(fault.Forbidden, "cross_origin", "A page of another site may not do this"))
			return
		}
		next.ServeHTTP(w, r)
	})
}
