package gateway

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/api"
	"github.com/convoflow/convoflow/libs/openapi"
)

// What each operation may do is asserted by the policy matrix of test/e2e, which is a list of its own.
func TestTheRoutesAreReadFromTheContract(t *testing.T) {
	t.Parallel()
	contract, err := api.Merged("1.2.3")
	require.NoError(t, err)
	table, err := routes(contract, map[string]int64{api.RecordingLimit: 100})
	require.NoError(t, err)
	byID := map[string]route{}
	for _, rt := range table {
		byID[rt.ID] = rt
		require.Contains(t, api.Services(), rt.service, rt.ID)
		require.Positive(t, rt.body, rt.ID)
		require.Equal(t, rt.Class == openapi.Login, rt.ID == "auth.register" || rt.ID == "auth.login" || rt.ID == "gateway.login", "%s: a refresh must not share the bucket of anonymous logins", rt.ID)
	}
	get := byID["crm.get_client"]
	require.Equal(t, "GET /clients/{id}", get.Pattern())
	require.Equal(t, []any{"crm", openapi.Agent, openapi.Read, int64(1 << 20), 25 * time.Second}, []any{get.service, get.Access, get.Class, get.body, get.timeout})
	upload := byID["calls.upload"]
	require.Equal(t, []any{openapi.Upload, int64(100 + multipart), time.Duration(openapi.Streamed)}, []any{upload.Class, upload.body, upload.timeout})
	require.Equal(t, time.Duration(openapi.Streamed), byID["calls.audio"].timeout)
	require.Equal(t, openapi.Write, byID["auth.refresh"].Class)
	inbound := byID["crm.receive_lead"]
	require.Equal(t, []any{openapi.Signed, openapi.Inbound, int64(128 << 10)}, []any{inbound.Access, inbound.Class, inbound.body})
	require.True(t, hasPath(table, "/clients"))
	require.True(t, hasPath(table, "/auth"))
	require.False(t, hasPath(table, "/inbox"))
	require.False(t, hasPath(table, "/internal"), "the gateway does not forward internal operations")

	login := byID["auth.login"]
	require.EqualValues(t, openapi.AnonymousBody, login.body)

	_, err = routes(contract, nil)
	require.ErrorContains(t, err, "no limit x-body recording")
	_, err = routes([]byte(`{"paths":{"/x":{"get":{"operationId":"crm.x"}}}}`), nil)
	require.ErrorContains(t, err, "x-access")
	for _, access := range []string{"anyone", "agent", "admin"} {
		_, err = routes([]byte(`{"paths":{"/x":{"post":{"operationId":"crm.x","x-class":"inbound","x-access":"`+access+`"}}}}`), nil)
		require.ErrorContains(t, err, "x-class inbound", access)
	}
}
