package main

// Metrics of notify that several rules and panels use.
const (
	deliveriesTotal   = "convoflow_notify_deliveries_total" // by result
	oldestOpen        = `convoflow_notify_oldest_delivery_seconds{status=~"pending|retrying"}`
	endpointsDisabled = "convoflow_notify_endpoints_disabled"
	withoutDelivery   = "convoflow_notify_missing_deliveries"
)
