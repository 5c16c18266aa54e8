module github.com/convoflow/convoflow/platform

go 1.26.0

require github.com/convoflow/convoflow/api v0.0.0

require github.com/convoflow/convoflow/libs v0.0.0

require github.com/convoflow/convoflow/gateway v0.0.0

require github.com/convoflow/convoflow/services/auth v0.0.0

require github.com/convoflow/convoflow/services/calls v0.0.0

require github.com/convoflow/convoflow/services/crm v0.0.0

require github.com/convoflow/convoflow/services/notify v0.0.0

require (
	github.com/google/go-cmp v0.7.0 // indirect
	github.com/jonreiter/govader v0.0.0-20250429093935-f6505c8d03cc // indirect
	github.com/klauspost/compress v1.20.3 // indirect
	github.com/pierrec/lz4/v4 v4.1.33 // indirect
	github.com/santhosh-tekuri/jsonschema/v6 v6.0.3 // indirect
	github.com/sashabaranov/go-openai v1.43.0 // indirect
	github.com/segmentio/kafka-go v0.4.51 // indirect
	github.com/stretchr/testify v1.12.1 // indirect
	github.com/twmb/franz-go v1.22.2 // indirect
	github.com/twmb/franz-go/pkg/kfake v0.0.0-20260918054303-01f206a7e32c // indirect
	github.com/twmb/franz-go/pkg/kmsg v1.15.0 // indirect
	golang.org/x/text v0.43.0 // indirect
	gonum.org/v1/gonum v0.17.0 // indirect
)

replace github.com/convoflow/convoflow/api => ../api

replace github.com/convoflow/convoflow/libs => ../libs

replace github.com/convoflow/convoflow/gateway => ../gateway

replace github.com/convoflow/convoflow/services/auth => ../services/auth

replace github.com/convoflow/convoflow/services/calls => ../services/calls

replace github.com/convoflow/convoflow/services/crm => ../services/crm

replace github.com/convoflow/convoflow/services/notify => ../services/notify
