package openapi_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/openapi"
)

func TestNumbersOfFormsBecomeNumbersOfJSON(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"31.5": "31.5", "+31.50": "31.5", ".5": "0.5", "5.": "5", "05": "5", "0x10p0": "16", "1e3": "1000", "-0": "-0"} {
		value, typ, _ := openapi.Convert(text, "number")
		require.Empty(t, typ, text)
		raw, err := json.Marshal(value)
		require.NoError(t, err, text)
		require.Equal(t, want, string(raw), text)
	}
	for text, want := range map[string]string{"7": "7", "+7": "7", "007": "7", "-7": "-7"} {
		value, typ, _ := openapi.Convert(text, "integer")
		require.Empty(t, typ, text)
		raw, err := json.Marshal(value)
		require.NoError(t, err, text)
		require.Equal(t, want, string(raw), text)
	}
	for _, text := range []string{"", "x", "NaN", "Inf", "1e999", "1,5"} {
		_, typ, _ := openapi.Convert(text, "number")
		require.Equal(t, "float_parsing", typ, text)
	}
}
