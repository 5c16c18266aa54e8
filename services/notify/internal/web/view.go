package web

import (
	"time"

	"github.com/convoflow/convoflow/services/notify/internal/delivery"
)

// shown is what people see differently from how it is stored: the attempts that have a result, and whether the delivery is held. They
// hide the fields of the delivery.
type shown struct {
	Status        delivery.Status `json:"status"`
	Reason        *string         `json:"reason"`
	NextAttemptAt *time.Time      `json:"next_attempt_at"`
	Attempts      int             `json:"attempts"`
}

func show(d delivery.Delivery) shown {
	s := shown{NextAttemptAt: d.NextAttemptAt, Attempts: d.Requests()}
	if s.Status, s.Reason = d.Shown(); s.Status == delivery.Held {
		s.NextAttemptAt = nil
	}
	return s
}

type row struct{ delivery.Delivery }

type shownDelivery struct {
	row // one level deeper than shown
	shown
}

func viewDelivery(d delivery.Delivery) any { return shownDelivery{row{d}, show(d)} }

type detail struct{ delivery.Detail }

type shownDetail struct {
	detail
	shown
}

func viewDetail(d delivery.Detail) any { return shownDetail{detail{d}, show(d.Delivery)} }
