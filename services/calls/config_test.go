package calls_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/services/calls"
)

func environ(more ...string) []string {
	return append([]string{
		"DATABASE_URL=postgres://u:p@db:5432/x", "KAFKA_BROKERS=kafka:9092", "SECRET_KEY=7Qm2xV9pLr4TzW8kYb3NcF6hJd1SgA5e",
		"AUTH_URL=http://auth:8080", "CRM_URL=http://crm:8080", "STORAGE_URL=s3://recordings?region=eu-central-1",
	}, more...)
}

func TestTheMemoryOfFFmpegIsLeftToIt(t *testing.T) {
	t.Parallel()
	var parent run.Parent = calls.Config{Workers: 3}
	require.EqualValues(t, 3*640<<20, parent.ChildMemory())
}

func TestSettings(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		environ []string
		want    []string
	}{
		"openai":      {environ("OPENAI_API_KEY=sk-1"), nil},
		"two servers": {environ("TRANSCRIBE_BASE_URL=http://a/v1", "CHAT_BASE_URL=http://b/v1", "TRANSCRIBE_RETRY_WAITS=1s,2m"), nil},
		"no AI": {environ(), []string{
			"OPENAI_API_KEY is not set: set it, or CHAT_BASE_URL to a compatible server",
			"OPENAI_API_KEY is not set: set it, or TRANSCRIBE_BASE_URL to a compatible server",
		}},
		"one of two": {environ("TRANSCRIBE_BASE_URL=http://a/v1"), []string{"OPENAI_API_KEY is not set: set it, or CHAT_BASE_URL to a compatible server"}},
		"everything wrong": {environ("OPENAI_BASE_URL=api", "STORAGE_URL=recordings", "MAX_AUDIO_SIZE_MB=0", "TRANSCRIBE_WORKERS=0", "AUDIO_ORPHAN_AGE=1s", "CRM_URL="), []string{
			"AUDIO_ORPHAN_AGE must be 1m or more: a file without a call may be one that is just being uploaded",
			"CHAT_BASE_URL (or OPENAI_BASE_URL) is not an http or https address such as https://api.openai.com/v1",
			"CRM_URL is not set: such as http://crm:8080",
			"MAX_AUDIO_SIZE_MB must be 1 to 4096",
			"STORAGE_URL is not set to a bucket: file:///a/directory, s3://bucket?region=…, gs://bucket or azblob://container",
			"TRANSCRIBE_BASE_URL (or OPENAI_BASE_URL) is not an http or https address such as https://api.openai.com/v1",
			"TRANSCRIBE_WORKERS must be 1 to 100",
		}},
	} {
		_, err := conf.Load(calls.Defaults(), c.environ)
		var problems []string
		if err != nil {
			var list *conf.Error
			require.ErrorAs(t, err, &list)
			problems = list.Problems
		}
		require.Equal(t, c.want, problems, name)
	}
}
