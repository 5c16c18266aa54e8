package call

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
)

// Limits of an upload beside the size of the recording.
const (
	maxParts      = 50
	maxField      = 1000             // bytes of a field's value
	maxFilename   = 255              // characters
	maxDuration   = 24 * 60 * 60     // seconds that an app may claim
	finishTimeout = 10 * time.Second // to write the call of a recording that is stored, also when the client has gone
)

// UploadRequest is a recording on its way in.
type UploadRequest struct {
	Form           Form
	IdempotencyKey string
}

// Upload stores a recording while it arrives and makes a pending call of it. Wrong fields are reported all at once. Whatever
// goes wrong, nothing stays. Its own faults are client_not_found, client_forbidden and lead_not_found; further ones come
// from Form, Recordings and Keeper.
func (s *Service) Upload(ctx context.Context, req UploadRequest) (Call, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return Call{}, err
	}
	now := s.Clock.Now()
	id := event.NewID()
	key := prefixOf(now) + id
	got, err := s.receive(ctx, key, req.Form)
	if err != nil {
		return Call{}, errors.Join(err, s.discard(ctx, key))
	}
	// The recording is there: a client that leaves now gets its call all the same.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
	defer cancel()
	if err := s.check(ctx, caller, got.details); err != nil {
		return Call{}, errors.Join(err, s.discard(ctx, key))
	}
	c, events := New(id, caller.AgentID, got.details, got.duration, got.recording, now)
	first, err := s.create(ctx, req.IdempotencyKey, c, events)
	switch {
	case err != nil && fault.Retryable(err):
		// It is open whether the call was written. If not, Sweep removes the recording.
		return Call{}, err
	case err != nil:
		return Call{}, errors.Join(err, s.discard(ctx, key))
	case first.ID != id:
		return first, s.discard(ctx, key)
	default:
		return first, nil
	}
}

// discard removes a recording that gets no call.
func (s *Service) discard(ctx context.Context, key string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
	defer cancel()
	if err := s.Recordings.Remove(ctx, key); err != nil {
		return fmt.Errorf("remove the recording of a refused upload: %w", err)
	}
	return nil
}

// create writes the call, or returns the one that the same key made before, as it was then.
func (s *Service) create(ctx context.Context, key string, c Call, events []event.Event) (first Call, err error) {
	if key == "" {
		return c, s.Store.Create(ctx, c, events)
	}
	fingerprint, err := json.Marshal([]any{c.Recording.SHA256, c.Details, c.DurationSeconds})
	if err != nil {
		return first, fmt.Errorf("marshal the fingerprint of an upload: %w", err)
	}
	answer, err := s.Keeper.Once(ctx, "calls.upload", key, fingerprint, func(ctx context.Context) (json.RawMessage, error) {
		if err := s.Store.Create(ctx, c, events); err != nil {
			return nil, err
		}
		return json.Marshal(c)
	})
	if err != nil {
		return first, err
	}
	if err := json.Unmarshal(answer, &first); err != nil {
		return first, fmt.Errorf("read the first answer: %w", err)
	}
	return first, nil
}

// check asks whether the client is the caller's.
func (s *Service) check(ctx context.Context, caller identity.Caller, d Details) error {
	if d.LeadID != nil {
		return fault.New(fault.NotFound, "lead_not_found", "Lead not found")
	}
	if d.ClientID == nil {
		return nil
	}
	owner, err := s.Clients.Owner(ctx, *d.ClientID)
	if err != nil {
		return err
	}
	if !caller.MaySee(owner) {
		return fault.New(fault.Forbidden, "client_forbidden", "This client belongs to another agent")
	}
	return nil
}

// received is a form that is all right.
type received struct {
	recording Recording
	details   Details
	duration  *float64
}

// receive reads the parts in whatever order they come, and stores the recording on the way.
func (s *Service) receive(ctx context.Context, key string, form Form) (got received, err error) {
	values := map[string]string{}
	var wrong []fault.Field
	recordings := 0
	for n := 1; ; n++ {
		part, err := form.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return got, err
		}
		if n > maxParts {
			return got, fault.New(fault.Malformed, "too_many_parts", fmt.Sprintf("Send at most %d parts", maxParts))
		}
		if part.Name != "audio" {
			field, err := readField(part, values)
			if err != nil {
				return got, err
			}
			wrong = append(wrong, field...)
			continue
		}
		if recordings++; recordings > 1 {
			continue
		}
		got.recording, err = s.Recordings.Store(ctx, key, part.Content)
		if f := fault.Of(err); err != nil && len(f.Fields) > 0 {
			wrong = append(wrong, f.Fields...)
		} else if err != nil {
			return got, err
		}
		got.recording.Key, got.recording.Filename = key, baseName(part.Filename)
	}
	switch {
	case recordings == 0:
		wrong = append(wrong, fault.BodyField("audio", "missing", "Field required"))
	case recordings > 1:
		wrong = append(wrong, fault.BodyField("audio", "too_long", "Send one recording per request"))
	}
	var fields []fault.Field
	got.details, got.duration, fields = readDetails(values)
	if wrong = append(wrong, fields...); len(wrong) > 0 {
		slices.SortStableFunc(wrong, func(a, b fault.Field) int { return strings.Compare(fmt.Sprint(a.Loc), fmt.Sprint(b.Loc)) })
		return got, fault.Fields(wrong...)
	}
	return got, nil
}

// readField keeps the value of a known field. An empty one is like none.
func readField(part Part, values map[string]string) ([]fault.Field, error) {
	names := []string{"client_id", "lead_id", "duration_seconds", "call_type", "call_tag", "language", "recorded_at"}
	if !slices.Contains(names, part.Name) {
		return nil, nil
	}
	raw, err := io.ReadAll(io.LimitReader(part.Content, maxField+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > maxField {
		return []fault.Field{fault.BodyField(part.Name, "string_too_long", fmt.Sprintf("String should have at most %d characters", maxField))}, nil
	}
	if value := strings.TrimSpace(string(raw)); value != "" {
		values[part.Name] = value
	}
	return nil, nil
}

func readDetails(values map[string]string) (d Details, duration *float64, wrong []fault.Field) {
	refuse := func(name, typ, msg string) { wrong = append(wrong, fault.BodyField(name, typ, msg)) }
	text := func(name string) *string {
		value, ok := values[name]
		if !ok {
			return nil
		}
		return &value
	}
	id := func(name string) *string {
		value := text(name)
		if value == nil {
			return nil
		}
		if !event.ValidID(*value) {
			refuse(name, "uuid_parsing", "Input should be a valid UUID")
		}
		return new(strings.ToLower(*value))
	}
	choice := func(name string, among ...string) *string {
		value := text(name)
		if value != nil && !slices.Contains(among, *value) {
			refuse(name, "enum", "Input should be one of: "+strings.Join(among, " "))
		}
		return value
	}
	d.ClientID, d.LeadID = id("client_id"), id("lead_id")
	d.CallTag = choice("call_tag", "connected", "no_answer", "wrong_number")
	d.CallType = "default"
	if callType := choice("call_type", "default", "discovery", "followup", "demo"); callType != nil {
		d.CallType = *callType
	}
	if value, ok := values["duration_seconds"]; ok {
		seconds, err := strconv.ParseFloat(value, 64)
		switch {
		case err != nil || math.IsNaN(seconds):
			refuse("duration_seconds", "float_parsing", "Input should be a valid number")
		case seconds < 0:
			refuse("duration_seconds", "greater_than_equal", "Input should be greater than or equal to 0")
		case seconds > maxDuration:
			refuse("duration_seconds", "less_than_equal", fmt.Sprintf("Input should be less than or equal to %d", maxDuration))
		}
		duration = &seconds
	}
	if value, ok := values["language"]; ok {
		d.Language = new(strings.ToLower(value))
		if !isLanguage(*d.Language) {
			wrong = append(wrong, wrongLanguage())
		}
	}
	if value, ok := values["recorded_at"]; ok {
		at, err := parseTime(value)
		if err != nil {
			refuse("recorded_at", "datetime_parsing", "Input should be a time such as 2026-11-24T09:30:00Z")
		}
		d.RecordedAt = &at
	}
	return d, duration, wrong
}

// parseTime reads RFC 3339; a time without a zone is UTC.
func parseTime(text string) (time.Time, error) {
	var first error
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999"} {
		t, err := time.Parse(layout, text)
		if err == nil && t.UTC().Year() >= 1 && t.UTC().Year() <= 9999 {
			return t.UTC().Truncate(time.Microsecond), nil
		}
		first = cmp.Or(first, err)
	}
	return time.Time{}, first
}

func wrongLanguage() fault.Field {
	return fault.BodyField("language", "value_error", "Input should be an ISO 639-1 code such as en")
}

// languages are the codes of ISO 639-1.
const languages = "aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu ja jv ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg si sk sl sm sn so sq sr ss st su sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu"

func isLanguage(code string) bool { return slices.Contains(strings.Fields(languages), code) }

// baseName is the sender's name of a file without its path and without what does not belong into a name. Nil is none.
func baseName(name string) *string {
	name = name[strings.LastIndexAny(name, `/\`)+1:]
	name = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == utf8.RuneError {
			return -1
		}
		return r
	}, name)
	if name = strings.Trim(name, " ."); name == "" {
		return nil
	}
	if letters := []rune(name); len(letters) > maxFilename {
		name = string(letters[:maxFilename])
	}
	return &name
}
