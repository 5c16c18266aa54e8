package store_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/services/calls/internal/call"
)

// say adds a completed call with a transcript.
func (f fixture) say(t *testing.T, at time.Time, language, title, transcript string) call.Call {
	t.Helper()
	return f.add(t, event.NewID(), at, func(c *call.Call) {
		c.Status, c.Transcript, c.Details.Language = call.Completed, &call.Transcript{Text: transcript}, &language
		c.Insights.Title = &title
	})
}

// search returns the titles of the calls that match, and the highlights of the first.
func (f fixture) search(t *testing.T, text, sort string) (titles []string, first []call.Highlight) {
	t.Helper()
	found, err := f.List(t.Context(), filter(func(f *call.Filter) { f.Text, f.Sort = text, sort }))
	require.NoError(t, err)
	for _, c := range found.Items {
		titles = append(titles, *c.Insights.Title)
	}
	if len(found.Items) > 0 {
		first = found.Items[0].Highlights
	}
	return titles, first
}

func TestASearchKnowsTheFormsOfAWordInTheLanguageOfTheCall(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.say(t, noon(), "en", "english", "we talked about discounts and running costs")
	f.say(t, noon().Add(time.Minute), "de", "german", "wir haben über die Häuser und die Rabatte gesprochen")
	f.say(t, noon().Add(2*time.Minute), "xx", "other", "rabatte discounts")
	for text, want := range map[string][]string{
		"discount":           {"english"},
		"discounts":          {"other", "english"},
		"run":                {"english"},
		"haus":               {"german"},
		"Rabatt":             {"german"},
		"rabatte -häuser":    {"other"},
		"discount or haus":   {"german", "english"},
		`"running cost"`:     {"english"},
		`"cost running"`:     nil,
		"the":                nil, // a stop word in English, and in no other text
		"":                   {"other", "german", "english"},
		"discounts' & | (<-": {"other", "english"},
	} {
		got, _ := f.search(t, text, call.SortNewest)
		require.Equal(t, want, got, text)
		ranked, _ := f.search(t, text, "")
		require.ElementsMatch(t, want, ranked, text)
	}
}

// The transcript of a call whose insights failed can be read, and so has to be found.
func TestAFailedCallIsSearched(t *testing.T) {
	t.Parallel()
	f := open(t)
	c := f.say(t, noon(), "en", "yearly plan", "we talked about discounts")
	_, err := f.Change(t.Context(), c.ID, func(c *call.Call) ([]event.Event, error) {
		c.Status = call.Failed
		return nil, nil
	})
	require.NoError(t, err)
	for _, text := range []string{"discount", "plans"} {
		got, highlights := f.search(t, text, "")
		require.Equal(t, []string{"yearly plan"}, got, text)
		require.Len(t, highlights, 1, text)
	}
}

func TestASearchHasTheBestMatchesFirst(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.say(t, noon(), "en", "A discount", "hello")
	f.say(t, noon().Add(time.Minute), "en", "often", "discount discount discount")
	f.say(t, noon().Add(2*time.Minute), "en", "once", "one discount")
	best, _ := f.search(t, "discount", "")
	require.Equal(t, []string{"A discount", "often", "once"}, best)
	newest, _ := f.search(t, "discount", call.SortNewest)
	require.Equal(t, []string{"once", "often", "A discount"}, newest)
}

func TestHighlightsAreSafeHTML(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.say(t, noon(), "en", "Fish & discounts", strings.Repeat("nothing here ", 100)+" he said 1 < 2 and discount now "+strings.Repeat("nothing here ", 100))
	_, marked := f.search(t, "discount", "")
	require.Len(t, marked, 2)
	require.Equal(t, call.Highlight{Field: "title", Snippet: "Fish &amp; <mark>discounts</mark>"}, marked[0])
	require.Equal(t, "transcript", marked[1].Field)
	require.Contains(t, marked[1].Snippet, "1 &lt; 2 and <mark>discount</mark> now")
	require.Less(t, len(marked[1].Snippet), 300)
	_, marked = f.search(t, "fish said -bird", "")
	require.Len(t, marked, 2, "each field has one of the words")
	_, marked = f.search(t, "-bird", "")
	require.Empty(t, marked)
}

func TestPagesOfASearchAreComplete(t *testing.T) {
	t.Parallel()
	f := open(t)
	for i := range 7 {
		f.say(t, noon().Add(time.Duration(i/3)*time.Minute), "en", fmt.Sprint(i), "the same discount")
	}
	for _, sort := range []string{"", call.SortNewest} {
		seen := map[string]bool{}
		next := filter(func(f *call.Filter) { f.Text, f.Sort, f.Limit = "discount", sort, 3 })
		for {
			found, err := f.List(t.Context(), next)
			require.NoError(t, err)
			for _, c := range found.Items {
				require.False(t, seen[c.ID], "%s: twice", sort)
				seen[c.ID] = true
			}
			if next.Cursor = found.Next; found.Next == "" {
				break
			}
			other := next
			other.Sort = map[string]string{"": call.SortNewest, call.SortNewest: ""}[sort]
			_, err = f.List(t.Context(), other)
			require.True(t, fault.Is(err, fault.Invalid), "a cursor of the other order")
		}
		require.Len(t, seen, 7)
	}
}

// copies inserts many calls like one that exists, with other ids, the first n seconds before it.
func (f fixture) copies(t *testing.T, id string, n int) {
	t.Helper()
	columns := pgtest.Column[string](t, f.db, `select string_agg(column_name, ',') from information_schema.columns
		where table_schema = current_schema() and table_name = 'calls' and column_name not in ('id', 'created_at')`)[0]
	_, err := f.db.Pool().Exec(t.Context(), `insert into calls (id, created_at, `+columns+`)
		select gen_random_uuid(), created_at - g * interval '1 second', `+columns+` from calls, generate_series(1, $2) g where id = $1`, id, n)
	require.NoError(t, err)
	_, err = f.db.Pool().Exec(t.Context(), `analyze calls`)
	require.NoError(t, err)
}

// A search of a common word ranks a bounded number of calls, and a search of a rare one reads only the calls that have it.
func TestTheCostOfASearchIsBounded(t *testing.T) {
	t.Parallel()
	f := open(t)
	common := f.say(t, noon(), "en", "common", "a discount")
	f.copies(t, common.ID, 6000)
	rare := f.say(t, noon().Add(-24*time.Hour), "en", "rare", "a discount on umbrellas")
	require.NotEmpty(t, rare.ID)

	ranked := 0
	next := filter(func(f *call.Filter) { f.Text, f.Limit = "discount", 300 })
	for next.Cursor = "-"; next.Cursor != ""; {
		if next.Cursor == "-" {
			next.Cursor = ""
		}
		found, err := f.List(t.Context(), next)
		require.NoError(t, err)
		ranked += len(found.Items)
		next.Cursor = found.Next
	}
	require.Equal(t, 500, ranked)

	for text, most := range map[string]int64{"discount": 600, "umbrella": 50} {
		for _, sort := range []string{"", call.SortNewest} {
			search := func(ctx context.Context, text string) {
				found, err := f.List(ctx, filter(func(f *call.Filter) { f.Text, f.Sort = text, sort }))
				require.NoError(t, err)
				require.NotEmpty(t, found.Items)
			}
			var read int64
			require.NoError(t, f.db.InTx(t.Context(), func(ctx context.Context) error {
				for range 8 { // after a few executions PostgreSQL may use one plan for all words
					search(ctx, text)
				}
				read = f.rowsRead(ctx, t, func(ctx context.Context) { search(ctx, text) })
				return nil
			}))
			require.LessOrEqual(t, read, most, "%s %s", text, sort)
		}
	}
}

// A tsvector has at most a megabyte, also of a transcript with nothing but different words of long characters.
func TestAnyTranscriptIsSearchable(t *testing.T) {
	t.Parallel()
	f := open(t)
	var words strings.Builder
	for i := range 300_000 {
		fmt.Fprintf(&words, "%c%c%c%c ", 'क'+rune(i%37), 'क'+rune(i/37%37), 'क'+rune(i/1369%37), 'क'+rune(i/50653))
	}
	f.say(t, noon(), "hi", "long", words.String())
	f.say(t, noon(), "xx", "emoji", strings.Repeat("नमस्ते 👋 ", 200_000))
	got, _ := f.search(t, "नमस्ते", "")
	require.Equal(t, []string{"emoji"}, got)
}

func TestListsOfUnfinishedCallsAndOfALeadUseTheirIndexes(t *testing.T) {
	t.Parallel()
	f := open(t)
	done := f.say(t, noon(), "en", "done", "x")
	f.copies(t, done.ID, 6000)
	lead := event.NewID()
	f.add(t, done.AgentID, noon().Add(-48*time.Hour), func(c *call.Call) { c.Status, c.Details.LeadID = call.Failed, &lead })
	for name, edit := range map[string]func(*call.Filter){
		"status": func(f *call.Filter) { f.Status = "failed" },
		"lead":   func(f *call.Filter) { f.LeadID = lead },
	} {
		read := f.rowsRead(t.Context(), t, func(ctx context.Context) {
			found, err := f.List(ctx, filter(edit))
			require.NoError(t, err)
			require.Len(t, found.Items, 1)
		})
		require.Less(t, read, int64(50), name)
	}
}
