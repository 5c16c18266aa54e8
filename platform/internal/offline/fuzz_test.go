package offline

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
)

func TestParse(t *testing.T) {
	t.Parallel()
	out := "hello four point five\n<s> 0.080 0.140 0.999\nhello(2) 0.150 0.660 1.0\n<sil> 0.67 0.7 0.9\n[NOISE] 0.7 0.8 0.9\nfour 0.8 1.0 1.0\n</s> 1.0 1.1 1.0\n" +
		"\n<s> 1.2 1.3 1.0\n</s> 1.3 1.4 1.0\nbye\n<s> 1.5 1.6 1.0\nbye 1.6 2 0\n"
	got := parse(out)
	require.InDelta(t, -13.8, got[1].AvgLogprob, 0.1)
	got[1].AvgLogprob = 0
	require.Empty(t, cmp.Diff([]segment{{ID: 0, Start: 0.15, End: 1, Text: "hello four"}, {ID: 1, Start: 1.6, End: 2, Text: "bye"}}, got))
	require.Equal(t, []segment{}, parse(""))
}

func FuzzParse(f *testing.F) {
	f.Add("hello\n<s> 0 0.1 1\nhello(2) 0.1 0.2 1.0\n")
	f.Add("( 1 2 3\na NaN 1 2\n")
	f.Fuzz(func(t *testing.T, out string) {
		for _, s := range parse(out) {
			require.NotEmpty(t, s.Text)
			require.LessOrEqual(t, s.AvgLogprob, 0.0)
		}
	})
}

func FuzzAnalyse(f *testing.F) {
	a := newAnalyst()
	f.Add("I will send it by friday\nlet us talk")
	f.Add("please, and\x00 then \xff i will. ' don't")
	f.Fuzz(func(t *testing.T, transcript string) {
		i := a.analyse(transcript)
		require.NotEmpty(t, i.Summary)
		require.LessOrEqual(t, len(i.ActionItems), maxItems)
		require.LessOrEqual(t, len(i.KeyTopics), maxTopics)
		require.True(t, i.IntentConfidence >= 0 && i.IntentConfidence <= 1)
		require.Equal(t, len(i.ActionItems) > 0, i.NextStep != nil)
		for _, item := range i.ActionItems {
			require.NotEmpty(t, strings.TrimSpace(item))
		}
		said := strings.Join(strings.Fields(strings.NewReplacer("’", "'", "\r", "").Replace(strings.ToValidUTF8(transcript, ""))), " ")
		for _, e := range i.Evidence {
			require.Contains(t, said, e.Quote)
		}
	})
}
