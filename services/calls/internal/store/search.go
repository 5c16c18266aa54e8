package store

import (
	"cmp"
	"context"
	"fmt"
	"html"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/convoflow/convoflow/libs/page"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/table"
	"github.com/convoflow/convoflow/libs/text"
	"github.com/convoflow/convoflow/services/calls/internal/call"
)

const (
	// maxSearched is how much of a transcript is searched, in bytes. A tsvector has at most a megabyte: the words, and up to 10 bytes
	// for each of them.
	maxSearched = 500_000
	// maxRanked is how many matches are ranked, the newest ones: ranking reads the whole tsvector of each.
	maxRanked = 500
	// maxHighlighted is how much of a transcript is looked through for highlights, in characters. It takes 50 µs per 1000.
	maxHighlighted = 50_000
	// unstemmed is the configuration of languages that PostgreSQL has no stemmer for.
	unstemmed = "simple"
)

// configurations are the text search configurations of PostgreSQL 14 by ISO 639-1 code.
var configurations = map[string]string{
	"ar": "arabic", "hy": "armenian", "eu": "basque", "ca": "catalan", "da": "danish", "nl": "dutch", "en": "english", "fi": "finnish",
	"fr": "french", "de": "german", "el": "greek", "hi": "hindi", "hu": "hungarian", "id": "indonesian", "ga": "irish", "it": "italian",
	"lt": "lithuanian", "ne": "nepali", "no": "norwegian", "nb": "norwegian", "nn": "norwegian", "pt": "portuguese", "ro": "romanian",
	"ru": "russian", "sr": "serbian", "es": "spanish", "sv": "swedish", "ta": "tamil", "tr": "turkish", "yi": "yiddish",
}

// searched is what the search index of a call is made from, besides its transcript.
type searched struct{ configuration, title, summary string }

// searched returns the zero value for a call that has not ended: it is not searched.
func (r *record) searched() searched {
	if !r.Ended() {
		return searched{}
	}
	language := ""
	if l := r.Details.Language; l != nil {
		language = *l
	}
	return searched{cmp.Or(configurations[language], unstemmed), text.Of(r.Title()), text.Of(r.Insights.Summary)}
}

// saveSearch makes ended calls searchable, and no others.
func (s *calls) saveSearch(ctx context.Context, r *record) error {
	x := r.searched()
	if x.configuration == "" {
		_, err := s.db.Conn(ctx).Exec(ctx, `update calls set search = null where id = $1`, r.ID)
		return err
	}
	_, err := s.db.Conn(ctx).Exec(ctx, `
		update calls set search_config = $2::text,
			search = setweight(to_tsvector($2::text::regconfig, $3), 'A') || setweight(to_tsvector($2::text::regconfig, $4), 'B') || to_tsvector($2::text::regconfig, $5)
		where id = $1`, r.ID, x.configuration, x.title, x.summary, beginning(text.Of(r.text), maxSearched))
	return err
}

// beginning returns up to n bytes of a text.
func beginning(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// question is a search in the languages of some configurations.
type question struct {
	configurations []string
	query          string // a tsquery
	words          string // the tsquery of any of its words, for highlights; empty if it has none, such as -this
}

// ask parses a search for each configuration that calls have. It reads one row of each from the index calls_search_config. A search for
// nothing but stop words has no question.
func (s *calls) ask(ctx context.Context, words string) ([]question, error) {
	rows, err := s.db.Conn(ctx).Query(ctx, `
		with recursive used(name) as (
			(select search_config from calls where search is not null order by search_config limit 1)
			union all
			select (select search_config from calls where search is not null and search_config > used.name order by search_config limit 1)
			from used where used.name is not null
		), parsed as (select name, websearch_to_tsquery(name::regconfig, $1) as query from used where name is not null)
		select array_agg(name order by name), query::text, regexp_replace(coalesce(nullif(querytree(query), 'T'), ''), ' (&|<->|<\d+>) ', ' | ', 'g')
		from parsed where numnode(query) > 0 group by query order by 1`, words)
	if err != nil {
		return nil, fmt.Errorf("parse a search: %w", pg.Classify(err))
	}
	questions, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (q question, err error) {
		return q, r.Scan(&q.configurations, &q.query, &q.words)
	})
	return questions, pg.Classify(err)
}

// choose returns an expression that has the value of the question in the language of a call.
func choose(w *table.Where, questions []question, of func(question) string) string {
	choice := "case"
	for _, q := range questions {
		choice += " when search_config = any(" + w.Bind(q.configurations) + "::text[]) then nullif(" + w.Bind(of(q)) + ", '')::tsquery"
	}
	return choice + " end"
}

// match adds the condition that a call answers the question in its language.
func match(w *table.Where, questions []question) {
	if len(questions) == 1 {
		w.And("search @@ ?::text::tsquery", questions[0].query)
		return
	}
	var any []string
	for _, q := range questions {
		any = append(any, "search_config = any("+w.Bind(q.configurations)+"::text[]) and search @@ "+w.Bind(q.query)+"::text::tsquery")
	}
	w.And(strings.Join(any, " or "))
}

// search lists the calls that match the text of a filter.
func (s *calls) search(ctx context.Context, f call.Filter) (found page.Of[call.Call], err error) {
	questions, err := s.ask(ctx, f.Text)
	if err != nil || len(questions) == 0 {
		return found, err
	}
	w := where(f)
	match(&w, questions)
	if f.Sort == call.SortNewest {
		rows, err := s.searched.List(ctx, w, f.Request)
		if err != nil {
			return found, err
		}
		found = page.Map(rows, record.domain)
	} else if found, err = s.best(ctx, w, questions, f.Request); err != nil {
		return found, err
	}
	return found, s.highlight(ctx, questions, found.Items)
}

// hit is a match with its rank.
type hit struct {
	id        string
	createdAt time.Time
	rank      float32
}

// best lists matches by rank. Only the newest maxRanked ones are ranked.
func (s *calls) best(ctx context.Context, w table.Where, questions []question, r page.Request) (found page.Of[call.Call], err error) {
	question := choose(&w, questions, func(q question) string { return q.query })
	ranked := table.New(s.db, nil, table.Spec[hit]{
		Name: "calls",
		From: fmt.Sprintf(`(with newest as materialized (select id, created_at, search, %s as question from calls%s order by created_at desc, id desc limit %d)
			select id, created_at, ts_rank(search, question) as rank from newest) ranked`, question, w, maxRanked),
		Columns: func(h *hit) table.Columns {
			return table.Columns{table.Joined("id", &h.id), table.Joined("created_at", &h.createdAt), table.Joined("rank", &h.rank)}
		},
		Replan: true,
	})
	hits, err := ranked.ListBy(ctx, table.Order[hit]{Desc: true, Keys: []table.Key[hit]{
		{Name: "rank", Type: "real", Of: func(h hit) any { return h.rank }},
		{Name: "created_at", Type: "timestamptz", Of: func(h hit) any { return h.createdAt }},
		{Name: "id", Type: "uuid", Of: func(h hit) any { return h.id }},
	}}, w.Around(), r)
	if err != nil || len(hits.Items) == 0 {
		return found, err
	}
	place := map[string]int{}
	var ids []string
	for i, h := range hits.Items {
		place[h.id] = i
		ids = append(ids, h.id)
	}
	var chosen table.Where
	chosen.And("id = any(?::uuid[])", ids)
	rows, err := s.summaries.Query(ctx, chosen, "")
	if err != nil {
		return found, err
	}
	slices.SortFunc(rows, func(a, b record) int { return cmp.Compare(place[a.ID], place[b.ID]) })
	return page.Map(page.Of[record]{Items: rows, Next: hits.Next}, record.domain), nil
}

// Marks of a word in what ts_headline returns: no text of a call has control characters.
const begins, ends = "\x02", "\x03"

// highlight adds to each call the parts that have words of the search.
func (s *calls) highlight(ctx context.Context, questions []question, found []call.Call) error {
	place := map[string]*call.Call{}
	var ids []string
	for i := range found {
		place[found[i].ID] = &found[i]
		ids = append(ids, found[i].ID)
	}
	var w table.Where
	words := choose(&w, questions, func(q question) string { return q.words })
	w.And("id = any(?::uuid[])", ids)
	marks := `StartSel="` + begins + `", StopSel="` + ends + `"`
	whole, parts := w.Bind(marks+", HighlightAll=true"), w.Bind(marks+`, MaxFragments=2, MinWords=6, MaxWords=18, FragmentDelimiter=" … "`)
	rows, err := s.db.Conn(ctx).Query(ctx, fmt.Sprintf(`
		select id::text, ts_headline(search_config::regconfig, coalesce(given_title, title, ''), words, %[1]s), ts_headline(search_config::regconfig, coalesce(summary, ''), words, %[2]s),
			ts_headline(search_config::regconfig, left(coalesce(t.text, ''), %[3]d), words, %[2]s)
		from (select *, %[4]s as words from calls%[5]s) c left join transcripts t on t.call_id = c.id where words is not null`, whole, parts, maxHighlighted, words, w),
		w.Args()...)
	if err != nil {
		return fmt.Errorf("highlight a search: %w", pg.Classify(err))
	}
	var id string
	var snippets [3]string
	_, err = pgx.ForEachRow(rows, []any{&id, &snippets[0], &snippets[1], &snippets[2]}, func() error {
		for i, field := range []string{"title", "summary", "transcript"} {
			if strings.Contains(snippets[i], begins) {
				marked := strings.NewReplacer(begins, "<mark>", ends, "</mark>").Replace(html.EscapeString(snippets[i]))
				place[id].Highlights = append(place[id].Highlights, call.Highlight{Field: field, Snippet: marked})
			}
		}
		return nil
	})
	return pg.Classify(err)
}
