package conf

import (
	"net/url"
	"strings"
)

// IsOrigin reports whether text is http or https and a host, such as http://calls:8080, and nothing else. One slash at its
// end is nothing.
func IsOrigin(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "" && u.User == nil &&
		strings.Trim(u.Path, "/") == "" && u.RawQuery == "" && u.Fragment == ""
}
