package web

import "github.com/convoflow/convoflow/services/notify/internal/delivery"

// A delivery is shown with the attempts that have a result.
type shownDelivery struct {
	delivery.Delivery
	Attempts int `json:"attempts"`
}

func viewDelivery(d delivery.Delivery) any { return shownDelivery{d, d.Requests()} }

type shownDetail struct {
	delivery.Detail
	Attempts int `json:"attempts"`
}

func viewDetail(d delivery.Detail) any { return shownDetail{d, d.Requests()} }
