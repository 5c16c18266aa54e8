package contract

// Catalog maps every event type of the platform to its topic. A consumer uses it to tell a type that it does not care
// for from one that nobody knows.
func Catalog() map[string]string {
	catalog := map[string]string{}
	list(catalog, AgentRegistered, AgentUpdated, AgentDeactivated)
	list(catalog, SessionRevoked)
	list(catalog, CallUploaded, CallTranscribing, TranscriptionCompleted, TranscriptionFailed, CallUpdated, CallDeleted)
	list(catalog, ClientCreated, ClientUpdated, ClientDeleted)
	list(catalog, FollowUpScheduled, FollowUpUpdated, FollowUpCompleted, FollowUpDue, FollowUpDeleted)
	list(catalog, WebhookDelivered, WebhookDead)
	return catalog
}

func list[T Payload](catalog map[string]string, types ...Type[T]) {
	for _, t := range types {
		catalog[t.Name] = t.Topic
	}
}
