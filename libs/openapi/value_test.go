package openapi_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/openapi"
)

// Go accepts numbers that are not valid JSON. In a form, such a number once caused a 500.
func TestConvertedNumbersCanBeMarshaled(t *testing.T) {
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
