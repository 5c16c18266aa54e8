package openapi_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/openapi"
)

// Go reads more numbers than JSON has. One of them in a form once was a 500.
func TestConvertedNumbersCanBeMarshalled(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"31.5", "5", "-0", "1e3"} {
		value, typ, _ := openapi.Convert(text, "number")
		require.Empty(t, typ, text)
		_, err := json.Marshal(value)
		require.NoError(t, err, text)
	}
	for _, text := range []string{"+5", ".5", "5.", "05", "0x10p0"} {
		_, typ, _ := openapi.Convert(text, "number")
		require.Equal(t, "value_error", typ, text)
	}
	for _, text := range []string{"+7", "007"} {
		_, typ, _ := openapi.Convert(text, "integer")
		require.Equal(t, "value_error", typ, text)
	}
	for _, text := range []string{"", "x", "NaN", "Inf", "1e999", "1,5"} {
		_, typ, _ := openapi.Convert(text, "number")
		require.Equal(t, "float_parsing", typ, text)
	}
}
