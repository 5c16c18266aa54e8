package rpc_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/rpc"
)

func TestRoutesMustMatchTheContract(t *testing.T) {
	t.Parallel()
	s, err := newRouter(t, things, nil)
	require.NoError(t, err)
	rpc.Handle(s.router, "GET /things", "things.list", echo[listRequest])
	rpc.Handle(s.router, "POST /thing", "things.create", echo[createRequest])  // another path
	rpc.Handle(s.router, "PUT /things/{id}", "things.change", echo[idRequest]) // another method
	rpc.Handle(s.router, "GET /things/{id}", "things.fetch", echo[idRequest])  // another name
	rpc.Handle(s.router, "GET /secret", "things.secret", echo[struct{}])       // not in the contract
	rpc.Handle(s.router, "GET /things/{no}", "things.get", echo[idRequest])    // another parameter
	_, err = s.router.Handler()
	require.Error(t, err)
	for _, text := range []string{
		`operation things.create is "POST /thing" here and "POST /things" in the contract`,
		`operation things.change is "PUT /things/{id}" here`, `operation things.fetch is`, `operation things.secret is "GET /secret" here and "" in the contract`,
		`operation things.get is "GET /things/{no}" here`, `operation things.remove is in the contract and has no route`, "things.login is in the contract",
	} {
		require.ErrorContains(t, err, text)
	}
	require.NotContains(t, err.Error(), "things.list")
}

func TestAnUnsupportedContractIsRefused(t *testing.T) {
	t.Parallel()
	change := func(from, to string) string {
		require.Contains(t, string(things), from)
		return strings.Replace(string(things), from, to, 1)
	}
	tests := map[string]struct{ doc, problem string }{
		"not YAML":                      {"a: b: c", "read the OpenAPI document"},
		"no operationId":                {change("operationId: things.get\n", "summary: x\n"), "needs operationId"},
		"no x-access":                   {change("x-access: admin", "summary: x"), "needs operationId and x-access"},
		"unknown x-access":              {change("x-access: admin", "x-access: root"), "needs operationId and x-access"},
		"one operationId twice":         {change("things.get", "things.list"), "the same operationId"},
		"parameters of a path":          {change("summary: Everything there is", "parameters: []"), "parameters is not one of"},
		"a method that is not served":   {change("    get:\n      operationId: things.get", "    head:\n      operationId: things.get"), "head is not one of"},
		"two content types":             {change("          multipart/form-data:", "          application/json: {}\n          multipart/form-data:"), "exactly one content type"},
		"unknown x-class":               {change("x-timeout: none", "x-class: slow"), "x-class"},
		"a wrong x-body":                {change("x-timeout: none", "x-body: 0.5"), "x-body 0.5 is neither"},
		"a named x-body without a form": {change("operationId: things.get", "x-body: much\n      operationId: things.get"), "x-body much: only a form may name a limit"},
		"a large body from anyone":      {change("operationId: things.login", "operationId: things.login\n      x-body: 16385"), "over 16384 bytes although anyone"},
		"a named x-body from anyone":    {change("operationId: things.login", "operationId: things.login\n      x-body: much"), "although anyone"},
		"a wrong x-timeout":             {change("x-timeout: none", "x-timeout: -1"), "x-timeout -1 is neither"},
		"a schema that is not there":    {change("#/components/schemas/ThingCreate", "#/components/schemas/Nothing"), "post /things"},
		"a parameter that is not there": {change("#/components/parameters/Limit", "#/components/parameters/Nothing"), "get /things"},
		"a wrong schema":                {change("minLength: 8", "minLength: eight"), "post /login"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := newRouter(t, []byte(tt.doc), nil)
			require.ErrorContains(t, err, tt.problem)
		})
	}
}
