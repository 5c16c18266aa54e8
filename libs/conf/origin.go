package conf

import (
	"fmt"
	"net/url"
	"strings"
)

// IsOrigin reports whether text consists only of the scheme http or https and a host, such as http://calls:8080. A single
// trailing slash is allowed.
func IsOrigin(text string) bool {
	u, err := url.Parse(text)
	return err == nil && isWeb(u) && u.User == nil && strings.TrimSuffix(u.Path, "/") == "" && u.RawQuery == "" && u.Fragment == ""
}

// CheckOrigin returns the problem with a setting that must be an origin, if any.
func CheckOrigin(name, text, example string) []string {
	return checkAddress(name, text, example, IsOrigin(text))
}

// CheckURL returns the problem with a setting that must be an http or https URL, if any. The URL may have a path.
func CheckURL(name, text, example string) []string {
	u, err := url.Parse(text)
	return checkAddress(name, text, example, err == nil && isWeb(u))
}

func checkAddress(name, text, example string, ok bool) []string {
	switch {
	case text == "":
		return []string{fmt.Sprintf("%s is not set: such as %s", name, example)}
	case !ok:
		return []string{fmt.Sprintf("%s is not an http or https address such as %s", name, example)}
	}
	return nil
}

func isWeb(u *url.URL) bool { return (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "" }
