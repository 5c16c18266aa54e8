package delivery

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/event"
)

// The ids in samples look like ids and belong to nothing.
const (
	sampleCall     = "00000000-0000-7000-8000-00000000ca11"
	sampleAgent    = "00000000-0000-7000-8000-0000000a9e47"
	sampleClient   = "00000000-0000-7000-8000-0000000c11e7"
	sampleLead     = "00000000-0000-7000-8000-000000001ead"
	sampleEndpoint = "00000000-0000-7000-8000-0000000e4d01"
	sampleFollowUp = "00000000-0000-7000-8000-0000000f0110"
)

// sample returns the delivery of an invented event of that type with every field set, and the people that it is about.
func sample(eventType string, now time.Time) (Delivery, people) {
	d := Delivery{ID: event.NewID(), Event: eventType, EventID: event.NewID(), EventTime: now, CreatedAt: now, IsTest: true}
	d.Data, _ = json.Marshal(sampleData(eventType, now)) // the payloads of events always marshal
	return d, people{
		agent:  &Agent{ID: sampleAgent, Name: "Asha Rao", Email: "asha.rao@example.com"},
		client: &Client{ID: sampleClient, Name: new("Meera Nair"), Phone: new("+919820012345"), Email: new("meera.nair@example.com")},
		lead:   &Lead{ID: sampleLead, Name: new("Priya Sharma"), Phone: new("+919820054321")},
	}
}

func sampleData(eventType string, now time.Time) any {
	switch about, intent, _ := strings.Cut(eventType, "."); {
	case eventType == events.TranscriptionFailed.Name:
		c := sampleRecording(now)
		c.Status, c.ErrorCode, c.Retryable, c.Attempts = "failed", new("provider_unavailable"), new(true), 3
		return c
	case about == "followup":
		return events.FollowUp{
			FollowUpID: sampleFollowUp, Version: 1, CallID: sampleCall, ClientID: new(sampleClient), LeadID: new(sampleLead), AgentID: sampleAgent,
			DueDate: new(now.Add(24 * time.Hour)), Task: new("Send the proposal"), Notes: new("She prefers the afternoon."), Status: "pending", Source: "ai", CreatedAt: now, UpdatedAt: now,
		}
	case about == "lead":
		return sampleLeadOf(intent, now)
	case eventType == events.EndpointDisabled.Name:
		return events.Endpoint{
			EndpointID: sampleEndpoint, Version: 4, Description: "WhatsApp follow-ups", Reason: "failing",
			FailingSince: new(now.Add(-5 * 24 * time.Hour)), DisabledAt: now,
		}
	default:
		return sampleTranscript(now)
	}
}

func sampleRecording(now time.Time) events.Call {
	return events.Call{
		CallID: sampleCall, Version: 3, AgentID: sampleAgent, ClientID: new(sampleClient), LeadID: new(sampleLead), CallType: "discovery", CallTag: new("connected"),
		DurationSeconds: new(254.0), RecordedAt: new(now.Add(-10 * time.Minute)), CreatedAt: now, UpdatedAt: now,
	}
}

func sampleTranscript(now time.Time) events.Call {
	c := sampleRecording(now)
	c.Status, c.Outcome, c.Language, c.CompletedAt = "completed", new("ok"), new("en"), new(now)
	c.Summary = new("Meera likes the yearly plan. She asks for a proposal by Friday and wants to see a demo next week.")
	c.ActionItems, c.KeyTopics, c.Objections = []string{"Send the proposal by Friday", "Schedule the demo"}, []string{"pricing", "demo"}, []string{"The setup fee is too high"}
	c.Sentiment, c.NextStep, c.InterestLevel = new("positive"), new("Send the proposal"), new("high")
	c.IntentCategory, c.IntentConfidence, c.CallbackTime = new("interested"), new(0.87), new(now.Add(72*time.Hour))
	return c
}

func sampleLeadOf(intent string, now time.Time) events.Lead {
	if intent == "imported" || intent == "updated" {
		intent = "new"
	}
	return events.Lead{
		LeadID: sampleLead, Version: 2, AssignedAgentID: new(sampleAgent), Name: "Priya Sharma", Phone: new("+919820054321"), Email: new("priya.sharma@example.com"),
		SourceCampaign: new("Diwali offer"), Status: "contacted", IntentCategory: intent, CreatedAt: now, UpdatedAt: now,
		LeadDetails: events.LeadDetails{
			CallbackScheduledAt: new(now.Add(48 * time.Hour)), FollowUpCount: 2, CourseInterestedIn: new("Data Science"),
			PaymentLinkURL: new("https://pay.example.com/priya"), Objections: new("The setup fee is too high"),
		},
	}
}
