package bus

import "context"

// Ensure creates all topics, before a test writes to them with another client.
func (k *Kafka) Ensure(ctx context.Context) error { return k.ensure(ctx, k.topics...) }
