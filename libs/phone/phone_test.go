package phone_test

import (
	"regexp"
	"testing"
	"time"

	"github.com/nyaruka/phonenumbers"
	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/phone"
)

func TestNumbersBecomeE164(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ country, number, want string }{
		{"IN", "98765 43210", "+919876543210"},
		{"IN", "098765-43210", "+919876543210"},
		{"IN", "+91 (98765) 43210", "+919876543210"},
		{"IN", "+1 650-253-0000", "+16502530000"},
		{"US", "(650) 253-0000", "+16502530000"},
		{"IN", "+1 650-253-0000 ext. 12", "+16502530000"},
		{"IN", "9.19876543210E+11", "+919876543210"},
		{"IN", " 9.876543210e9 ", "+919876543210"},
		{"IN", "919876543210.0", "+919876543210"},
		{"IN", "9.19877E+11", ""}, // rounded
		{"IN", "12", ""},
		{"IN", "0000000000", ""},
		{"IN", "call me", ""},
		{"IN", "+999 1234567", ""},
		{"IN", "", ""},
	} {
		t.Run(tt.country+" "+tt.number, func(t *testing.T) {
			t.Parallel()
			normalize, err := phone.For(tt.country)
			require.NoError(t, err)
			got, ok := normalize(tt.number)
			require.Equal(t, tt.want, got)
			require.Equal(t, tt.want != "", ok)
		})
	}
}

func TestUnknownCountry(t *testing.T) {
	t.Parallel()
	for _, country := range []string{"", "in", "XX", "India"} {
		_, err := phone.For(country)
		require.ErrorContains(t, err, "ISO 3166", country)
	}
}

func FuzzNormalize(f *testing.F) {
	normalize, err := phone.For("IN")
	require.NoError(f, err)
	for _, seed := range []string{"98765 43210", "+1 650-253-0000 ext. 12", "tel:+91-98765;phone-context=+91", "٩٨٧٦٥٤٣٢١٠", "+"} {
		f.Add(seed)
	}
	e164 := regexp.MustCompile(`^\+[1-9][0-9]{4,15}$`)
	f.Fuzz(func(t *testing.T, number string) {
		got, ok := normalize(number)
		if !ok {
			return
		}
		require.Regexp(t, e164, got)
		again, ok := normalize(got)
		require.True(t, ok, "a normalized number is one")
		require.Equal(t, got, again)
	})
}

func TestZoneOfACountry(t *testing.T) {
	t.Parallel()
	for country, want := range map[string]string{"IN": "Asia/Kolkata", "DE": "Europe/Berlin", "GB": "Europe/London", "US": "America/New_York", "XX": "UTC", "": "UTC"} {
		require.Equal(t, want, phone.Zone(country), country)
	}
	for country := range phonenumbers.GetSupportedRegions() {
		_, err := time.LoadLocation(phone.Zone(country))
		require.NoError(t, err, country)
	}
}
