// Package inbound owns leads that automations send to the platform, such as Pabbly Connect: the signature of a delivery, what its
// keys mean, and which agent gets a new lead. A delivery about a known phone number is merged into its lead. The package refuses
// deliveries that are not signed, and never merges on a number that is no phone number.
package inbound

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/services/crm/internal/lead"
)

// attempts is how often a delivery is tried whose lead appears or disappears meanwhile.
const attempts = 4

// Mapping knows which field of a lead each key of a delivery is.
type Mapping interface {
	// Mapping returns the names of fields by the team's own keys. The built-in table has the others.
	Mapping(ctx context.Context) (map[string]string, error)
}

// BuiltIn is a Mapping without keys of the team.
type BuiltIn struct{}

// Mapping implements Mapping.
func (BuiltIn) Mapping(context.Context) (map[string]string, error) { return nil, nil }

// Service receives leads.
type Service struct {
	Leads          lead.Store
	Agents         *Balancer
	Mapping        Mapping
	NormalizePhone lead.NormalizePhone
	Secret         string // empty: the endpoint is closed
	Clock          clock.Clock
}

// Delivery is one request of an automation.
type Delivery struct {
	Body      []byte
	Signature string // hex HMAC-SHA256 of the body, with or without sha256=
}

// Received is the lead of a delivery.
type Received struct {
	lead.Lead
	Created bool // false: merged into a lead that exists
}

// Receive creates the lead of a delivery, or merges it into the lead with its phone number. Any number of deliveries of one number at
// once make one lead.
func (s *Service) Receive(ctx context.Context, d Delivery) (Received, error) {
	if err := s.verify(d); err != nil {
		return Received{}, err
	}
	own, err := s.Mapping.Mapping(ctx)
	if err != nil {
		return Received{}, err
	}
	values, err := parse(d.Body)
	if err != nil {
		return Received{}, err
	}
	in := NewTable(own).Arrange(values, s.NormalizePhone)
	if in.Phone == nil && in.RawPhone == nil {
		return Received{}, fault.Fields(fault.BodyField("phone", "missing", "Field required: phone, phone_number, mobile or another key that means it"))
	}
	for range attempts {
		received, err := s.store(ctx, in)
		switch {
		case fault.Is(err, fault.NotFound), fault.Is(err, fault.Conflict): // deleted, or created by another delivery, in this moment
			continue
		default:
			return received, err
		}
	}
	return Received{}, errors.New("the lead of a delivery appears and disappears all the time")
}

// verify checks the signature in constant time.
func (s *Service) verify(d Delivery) error {
	if s.Secret == "" {
		return fault.New(fault.Forbidden, "inbound_closed", "This platform receives no leads: its operator has not set PABBLY_INBOUND_SECRET")
	}
	if d.Signature == "" {
		return fault.New(fault.Unauthenticated, "not_signed", "Sign the body: X-Pabbly-Signature is its HMAC-SHA256 in hexadecimal")
	}
	sent, err := hex.DecodeString(strings.TrimPrefix(strings.TrimSpace(d.Signature), "sha256="))
	mac := hmac.New(sha256.New, []byte(s.Secret))
	mac.Write(d.Body)
	if !hmac.Equal(sent, mac.Sum(nil)) || err != nil {
		return fault.New(fault.Unauthenticated, "invalid_signature", "The signature does not match the body: X-Pabbly-Signature is the HMAC-SHA256 of its exact bytes")
	}
	return nil
}

func (s *Service) store(ctx context.Context, in lead.Incoming) (Received, error) {
	if in.Phone != nil {
		found, err := s.Leads.FindByPhones(ctx, []string{*in.Phone})
		if err != nil {
			return Received{}, err
		}
		if known, ok := found[*in.Phone]; ok {
			return s.merge(ctx, known.LeadID, in)
		}
	}
	agentID, done, err := s.Agents.Next(ctx)
	if err != nil {
		return Received{}, err
	}
	l, imported := in.New(agentID, s.Clock.Now())
	err = s.Leads.Create(ctx, l, imported)
	done(err == nil)
	if err != nil {
		return Received{}, fmt.Errorf("create an inbound lead: %w", err)
	}
	return Received{Lead: l, Created: true}, nil
}

func (s *Service) merge(ctx context.Context, id string, in lead.Incoming) (Received, error) {
	l, err := s.Leads.Change(ctx, id, func(l *lead.Lead) ([]event.Event, error) {
		if l.Phone == nil || *l.Phone != *in.Phone { // a person has just corrected it
			return nil, lead.NotFound()
		}
		if changed, ok := l.Merge(in, s.Clock.Now()); ok {
			return []event.Event{changed}, nil
		}
		return nil, nil
	})
	return Received{Lead: l}, err
}
