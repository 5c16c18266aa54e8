// Package setting owns what a team may change about its own work: stages and fields of leads, the mapping of inbound leads, working
// hours and time zone. Each value is checked by the rules of its key before it is stored. It refuses keys that it does not know.
package setting

import (
	"context"
	"encoding/json"
	"strconv"
	"time"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/page"
	"github.com/convoflow/convoflow/services/crm/internal/followup"
	"github.com/convoflow/convoflow/services/crm/internal/lead"
)

// The keys.
const (
	LeadStatuses = "lead_statuses"
	LeadFields   = "lead_fields"
	LeadMapping  = "lead_mapping"
	WorkingHours = "working_hours"
	TimeZone     = "time_zone"
)

// Setting is one value that the team may change. Its JSON is that of the API.
type Setting struct {
	Key         string          `json:"key"`
	Value       json.RawMessage `json:"value"`
	Description string          `json:"description"`
	Version     int64           `json:"-"`
	UpdatedAt   *time.Time      `json:"updated_at"` // nil while it is the default
}

// Store stores settings. A key that does not exist is the fault NotFound.
type Store interface {
	Find(ctx context.Context, key string) (Setting, error)
	List(ctx context.Context, r page.Request) (page.Of[Setting], error)
	Change(ctx context.Context, key string, fn func(*Setting) ([]event.Event, error)) (Setting, error)
}

// NotFound is the fault of a key that is no setting.
func NotFound() error { return fault.New(fault.NotFound, "setting_not_found", "No such setting") }

// Service implements the operations on settings.
type Service struct {
	Settings Store
	HomeZone string // time zone of a team that has set none
	Clock    clock.Clock
}

// listed bounds a list of settings: there are only a few keys.
const listed = 100

// List returns all settings, for every agent: apps need the stages and fields of leads.
func (s *Service) List(ctx context.Context, _ struct{}) ([]Setting, error) {
	found, err := s.Settings.List(ctx, page.Request{Limit: listed})
	if err != nil {
		return nil, err
	}
	list := []Setting{}
	for _, x := range found.Items {
		if rule, ok := rules[x.Key]; ok { // another version of the program may have more
			list = append(list, s.shown(x, rule))
		}
	}
	return list, nil
}

// PutRequest is a new value of a setting.
type PutRequest struct {
	Key   string          `path:"key" json:"-"`
	Value json.RawMessage `json:"value"`
}

// Put changes a setting. It fails with setting_not_found, and with all that is wrong with the value.
func (s *Service) Put(ctx context.Context, req PutRequest) (Setting, error) {
	rule, ok := rules[req.Key]
	if !ok {
		return Setting{}, NotFound()
	}
	value, wrong := rule.clean(req.Value)
	if len(wrong) > 0 {
		return Setting{}, fault.Fields(wrong...)
	}
	x, err := s.Settings.Change(ctx, req.Key, func(x *Setting) ([]event.Event, error) {
		x.Value, x.UpdatedAt = value, new(s.Clock.Now())
		x.Version++
		return nil, nil
	})
	return s.shown(x, rule), err
}

// shown returns a setting with its description, and its default if the team has set no value.
func (s *Service) shown(x Setting, rule rule) Setting {
	x.Description = rule.description
	switch {
	case x.Value != nil:
	case x.Key == TimeZone && s.HomeZone != "":
		x.Value = json.RawMessage(strconv.Quote(s.HomeZone))
	default:
		x.Value = json.RawMessage(rule.byDefault)
	}
	return x
}

// find reads the value of a key into a variable.
func (s *Service) find(ctx context.Context, key string, into any) error {
	x, err := s.Settings.Find(ctx, key)
	if err != nil {
		return err
	}
	return json.Unmarshal(s.shown(x, rules[key]).Value, into)
}

// Mapping returns which field of a lead each key of an inbound lead is. The value is the name of a field, or extra_data.<name>.
func (s *Service) Mapping(ctx context.Context) (fields map[string]string, err error) {
	return fields, s.find(ctx, LeadMapping, &fields)
}

// Zone returns the time zone of the team.
func (s *Service) Zone(ctx context.Context) (*time.Location, error) {
	var name string
	if err := s.find(ctx, TimeZone, &name); err != nil {
		return nil, err
	}
	return time.LoadLocation(name)
}

// Hours returns when the team works.
func (s *Service) Hours(ctx context.Context) (hours followup.WorkingHours, err error) {
	var week Week
	if err := s.find(ctx, WorkingHours, &week); err != nil {
		return hours, err
	}
	for day := range hours.Days {
		if h := week.On(time.Weekday(day)); h != nil {
			if hours.Days[day], err = h.shift(); err != nil {
				return hours, err
			}
		}
	}
	hours.Zone, err = s.Zone(ctx)
	return hours, err
}

// HasField implements lead.Rules.
func (s *Service) HasField(ctx context.Context, name string) (bool, error) {
	fields, err := s.fields(ctx)
	return fields[name].Name != "", err
}

func (s *Service) fields(ctx context.Context) (map[string]Field, error) {
	var list []Field
	if err := s.find(ctx, LeadFields, &list); err != nil {
		return nil, err
	}
	fields := map[string]Field{}
	for _, f := range list {
		fields[f.Name] = f
	}
	return fields, nil
}

// Check implements lead.Rules.
func (s *Service) Check(ctx context.Context, status lead.Status, extra lead.Extra) (wrong []fault.Field, err error) {
	if status != "" && !builtIn(status) {
		var stages []Stage
		if err := s.find(ctx, LeadStatuses, &stages); err != nil {
			return nil, err
		}
		if !has(stages, string(status)) {
			wrong = append(wrong, fault.BodyField("status", "enum", "Input should be a built-in status, or a stage of the setting lead_statuses"))
		}
	}
	if len(extra) == 0 {
		return wrong, nil
	}
	fields, err := s.fields(ctx)
	if err != nil {
		return nil, err
	}
	for name, value := range extra {
		if f, ok := fields[name]; ok && !f.takes(value) {
			wrong = append(wrong, fault.Field{Type: "value_error", Loc: []any{"body", "extra_data", name}, Msg: f.expects()})
		}
	}
	return wrong, nil
}
