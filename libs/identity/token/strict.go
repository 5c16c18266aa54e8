package token

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// The members of a header and of claims that have a meaning here or in a JWT library.
var (
	headerNames = []string{"alg", "typ", "kid", "jwk", "jku", "x5u", "x5c", "x5t", "x5t#S256", "crit", "b64", "cty", "enc", "zip"}
	claimNames  = []string{"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "sid", "role"}
)

// strict refuses whatever two parsers could read differently. Go's base64 skips line breaks, and Go's JSON takes "SUB" and "ſub"
// for "sub" and the last of two members with one name.
func strict(text string) error {
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return errors.New("not three parts")
	}
	if i := strings.IndexFunc(text, func(r rune) bool { return !isBase64URL(r) && r != '.' }); i >= 0 {
		return fmt.Errorf("byte %d is not base64url", i)
	}
	if _, err := decodePart(parts[0], headerNames); err != nil {
		return fmt.Errorf("header: %w", err)
	}
	claims, err := decodePart(parts[1], claimNames)
	if err != nil {
		return fmt.Errorf("claims: %w", err)
	}
	for _, name := range claimNames {
		if claims[name] == nil {
			return fmt.Errorf("claim %s is missing", name)
		}
	}
	for _, name := range []string{"exp", "nbf", "iat"} { // the library also accepts a number in quotes
		if first := claims[name][0]; first < '0' || first > '9' {
			return fmt.Errorf("claim %s is not a number", name)
		}
	}
	return nil
}

func isBase64URL(r rune) bool {
	return r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '_'
}

// decodePart decodes a part of a token that must be one JSON object, in which no name occurs twice and none is another spelling of
// a known one.
func decodePart(part string, known []string) (map[string]json.RawMessage, error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(part)
	if err != nil {
		return nil, errors.New("not base64url")
	}
	if !utf8.Valid(raw) {
		return nil, errors.New("not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return nil, errors.New("not a JSON object")
	}
	members := map[string]json.RawMessage{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, errors.New("not a JSON object")
		}
		text, _ := name.(string)
		if members[text] != nil {
			return nil, errors.New("a name occurs twice")
		}
		folds := func(k string) bool { return k != text && strings.EqualFold(k, text) }
		if !slices.Contains(known, text) && slices.ContainsFunc(known, folds) {
			return nil, errors.New("another spelling of a known name")
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, errors.New("not a JSON object")
		}
		members[text] = value
	}
	if _, err := d.Token(); err != nil { // the closing brace
		return nil, errors.New("not a JSON object")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("text after the JSON object")
	}
	return members, nil
}
