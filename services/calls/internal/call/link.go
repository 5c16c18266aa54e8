package call

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"strconv"
	"strings"
	"time"

	"github.com/convoflow/convoflow/libs/fault"
)

// linkTTL is how long the address of a recording works: players ask for ranges while they play, and cannot send a header.
const linkTTL = 15 * time.Minute

// AudioLink is an address at which a recording can be played without a token of an agent.
type AudioLink struct {
	URL       string    `json:"url"` // at the API's address
	ExpiresAt time.Time `json:"expires_at"`
}

// LinkAudio makes an address for the recording of a call. It fails as Get does, and with audio_not_found.
func (s *Service) LinkAudio(ctx context.Context, req IDRequest) (AudioLink, error) {
	c, err := s.Get(ctx, req)
	if err != nil {
		return AudioLink{}, err
	}
	if c.Recording.Key == "" {
		return AudioLink{}, noRecording()
	}
	expires := s.Clock.Now().Add(linkTTL).Truncate(time.Second)
	return AudioLink{URL: "/calls/" + c.ID + "/audio?token=" + s.signLink(c.ID, expires), ExpiresAt: expires}, nil
}

// signLink returns the token of a link: the Unix time of its end, and the HMAC-SHA256 of it and the call.
func (s *Service) signLink(callID string, expires time.Time) string {
	seconds := strconv.FormatInt(expires.Unix(), 10)
	sum := hmac.New(sha256.New, s.LinkKey)
	_, _ = sum.Write([]byte(callID + " " + seconds)) // a hash never fails
	return seconds + "." + base64.RawURLEncoding.EncodeToString(sum.Sum(nil))
}

// checkLink fails unless the token is one of this call, and has not expired.
func (s *Service) checkLink(callID, token string) error {
	text, _, _ := strings.Cut(token, ".")
	seconds, err := strconv.ParseInt(text, 10, 64)
	expires := time.Unix(seconds, 0)
	if err != nil || !hmac.Equal([]byte(token), []byte(s.signLink(callID, expires))) || !s.Clock.Now().Before(expires) {
		return fault.New(fault.Forbidden, "audio_link_invalid", "The address of this recording is wrong or has expired: ask for a new one")
	}
	return nil
}

func noRecording() error {
	return fault.New(fault.NotFound, "audio_not_found", "This call has no recording")
}
