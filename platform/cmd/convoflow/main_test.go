package main

import (
	"bytes"
	"os"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// Each command says with --help what the list of commands says of it: the same flags, and no other ones.
func TestTheHelpListsTheFlagsOfEachCommand(t *testing.T) {
	t.Parallel()
	flags := regexp.MustCompile(`--[a-z-]+`)
	for _, c := range commands() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			require.Contains(t, usage(), "convoflow "+c.name)
			listed := flags.FindAllString(c.arguments, -1)
			if len(listed) == 0 {
				return
			}
			var out bytes.Buffer
			args := []string{c.name}
			if word := regexp.MustCompile(`^[a-z]+ `).FindString(c.arguments); word != "" {
				args = append(args, word[:len(word)-1])
			}
			require.Zero(t, execute(t.Context(), append(args, "--help"), terminal{os.Stdin, &out, &out}), out.String())
			var known []string
			for _, found := range regexp.MustCompile(`(?m)^  -([a-z-]+)`).FindAllStringSubmatch(out.String(), -1) {
				known = append(known, "--"+found[1])
			}
			require.ElementsMatch(t, known, listed)
		})
	}
}
