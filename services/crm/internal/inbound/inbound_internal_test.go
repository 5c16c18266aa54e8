package inbound

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/services/crm/internal/lead"
)

func plusOnly(number string) (string, bool) {
	return strings.TrimPrefix(number, "p:"), strings.HasPrefix(strings.TrimPrefix(number, "p:"), "+")
}

func arranged(t testing.TB, body string, own map[string]string) lead.Incoming {
	t.Helper()
	values, err := parse([]byte(body))
	require.NoError(t, err)
	return NewTable(own).Arrange(values, plusOnly)
}

func TestKeysMeanFieldsWhateverTheirSpelling(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"phone_number", "Phone Number", "PHONE-NUMBER", "phoneNumber", "mobile", "Mobile No.", "whatsapp_number", "contact"} {
		in := arranged(t, `{"`+key+`":"+919876543210"}`, nil)
		require.Equal(t, "+919876543210", *in.Phone, key)
		require.Empty(t, in.ExtraData, key)
	}
	in := arranged(t, `{"First Name":"Priya","last-name":"Sharma","phone":"p:+91","campaign_name":"Diwali","source":"facebook"}`, nil)
	require.Equal(t, "Priya Sharma", in.Name)
	require.Equal(t, "Diwali", *in.SourceCampaign)
	require.JSONEq(t, `"facebook"`, string(in.ExtraData["source"]), "the second key of a field is not lost")
	require.Equal(t, "Whole", arranged(t, `{"first_name":"A","full_name":"Whole"}`, nil).Name)
	in = arranged(t, `{"status":"CREATED","phone":"+91"}`, nil)
	require.Empty(t, in.Status, "a form's status is not the lead's")
	require.JSONEq(t, `"CREATED"`, string(in.ExtraData["status"]))
}

func TestTheTeamsKeysComeFirst(t *testing.T) {
	t.Parallel()
	own := map[string]string{"Handy": "phone", "source": "city", "Budget (INR)": "notes"}
	in := arranged(t, `{"handy":"+49","source":"Pune","budget inr":"5000"}`, own)
	require.Equal(t, "+49", *in.Phone)
	require.JSONEq(t, `"Pune"`, string(in.ExtraData["city"]))
	require.Equal(t, "5000", *in.Notes)
}

func FuzzDelivery(f *testing.F) {
	for _, body := range []string{`{"phone":"+91"}`, `{"a":1e400,"b":"\u0000","\ud800":"x"}`, `{"a":{},"b":[]}`, `[]`, `{"name":"A","name":"B","NAME":"C"}`, `{"":null,"x":true}`, `{"first_name":"` + strings.Repeat("é", 300) + `"}`} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		values, err := parse(body)
		if err != nil {
			require.True(t, fault.Is(err, fault.Malformed) || fault.Is(err, fault.Invalid), "%v", err)
			return
		}
		require.True(t, json.Valid(body))
		require.LessOrEqual(t, len(values), maxKeys)
		in := NewTable(nil).Arrange(values, plusOnly)
		raw, err := json.Marshal(in)
		require.NoError(t, err)
		require.True(t, utf8.Valid(raw))
		require.NotContains(t, string(raw), `\u0000`, "PostgreSQL rejects it")
		require.LessOrEqual(t, utf8.RuneCountInString(in.Name), maxName)
		again := NewTable(nil).Arrange(values, plusOnly)
		require.Equal(t, in, again)
		l, _ := in.New(nil, time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC))
		require.Equal(t, in.Name == "" && in.Phone == nil && in.RawPhone == nil, l.Name == "")
	})
}
