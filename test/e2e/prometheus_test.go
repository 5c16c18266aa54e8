package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/test/fake/script"
)

// maxSeries is the budget of time series of each service, of one replica, under the load of this test. Each operation and status that is
// used adds 17, so that a service in which all are used has about ten times as many.
var maxSeries = map[string]int{"gateway": 500, "auth": 400, "calls": 800, "crm": 700, "notify": 600}

// TestPrometheusHasEverythingThatIsWatched runs a real Prometheus with the settings and rules of deploy/prometheus against five services
// under a small load. Every rule must be valid, every panel of every dashboard must show something, and every metric of an alert must
// exist.
func TestPrometheusHasEverythingThatIsWatched(t *testing.T) {
	t.Parallel()
	f := startFakes(t)
	s := newServices(t, f, append(f.settings(), "OPENAI_PROXY=true", "TRANSCRIBE_MODEL=whisper-1", "CHAT_MODEL=gpt-4o-mini", // models whose price and end are known
		"RATE_LIMIT_READ_PER_MINUTE=100000")...)
	s.start()
	p := s.startPrometheus()
	a := s.newAgent()

	pending := panels(t)
	took := clock.Stopwatch()
	for len(pending) > 0 && took() < 2*script.Timeout {
		smallLoad(a)
		pending = slices.DeleteFunc(pending, func(q panelQuery) bool { return len(p.query(q.expr)) > 0 })
	}
	for _, q := range pending {
		t.Errorf("%s shows nothing: %s", q.panel, q.expr)
	}
	p.requireRules()
	p.requireExemplars()
	p.requireBoundedLabels()
	for service, most := range maxSeries {
		series := p.query(`max_over_time(scrape_samples_post_metric_relabeling{job="` + service + `"}[10m])`)
		require.Len(t, series, 1, service)
		t.Logf("%s has %.0f series", service, series[0])
		assert.LessOrEqual(t, series[0], float64(most), "time series of %s", service)
	}
}

// smallLoad does a bit of everything that a panel shows.
func smallLoad(a *agent) {
	done := a.completed(a.upload(map[string]string{"client_id": a.newClient().ID, "call_type": "discovery"}).ID)
	a.post("/followups", followUpBody(done.ID)).must(http.StatusCreated)
	a.newLead()
	a.ids("/calls")
	a.get("/calls/" + done.ID + "/audio").must(http.StatusOK)
	a.get("/nothing").refused(http.StatusNotFound, "not_found")
	a.get("/calls/019abf00-0000-7000-8000-000000000000").refused(http.StatusNotFound, "call_not_found")
	a.login()
	a.do(http.MethodDelete, "/clients/"+a.newClient().ID, nil) // an erasure, which auth receives too
}

// panelQuery is an expression of a panel.
type panelQuery struct{ panel, expr string }

// panels returns the expressions of all panels.
func panels(t *testing.T) (all []panelQuery) {
	t.Helper()
	files, err := filepath.Glob("../../deploy/grafana/dashboards/*.json")
	require.NoError(t, err)
	require.Len(t, files, 8)
	for _, file := range files {
		raw, err := os.ReadFile(file)
		require.NoError(t, err)
		var board struct {
			Title  string
			Panels []struct {
				Title, Type string
				Targets     []struct{ Expr string }
			}
		}
		require.NoError(t, json.Unmarshal(raw, &board))
		for _, p := range board.Panels {
			require.True(t, p.Type == "row" || len(p.Targets) > 0, p.Title)
			for _, target := range p.Targets {
				all = append(all, panelQuery{board.Title + ": " + p.Title, strings.ReplaceAll(target.Expr, "$__rate_interval", "1m")})
			}
		}
	}
	require.Greater(t, len(all), 100)
	return all
}

// prometheus is a running Prometheus.
type prometheus struct {
	t   testing.TB
	url string
}

// startPrometheus starts one that scrapes the services of s every five seconds: a busy machine takes a second for a scrape.
func (s *stack) startPrometheus() prometheus {
	s.t.Helper()
	raw, err := os.ReadFile("../../deploy/prometheus/prometheus.yml")
	require.NoError(s.t, err)
	rules, err := filepath.Abs("../../deploy/prometheus/rules")
	require.NoError(s.t, err)
	config := strings.NewReplacer("rules/*.yml", filepath.ToSlash(rules)+"/*.yml", "_interval: 15s", "_interval: 5s").Replace(string(raw))
	for _, u := range s.units {
		require.Contains(s.t, config, `"`+u.name+`:9090"`)
		config = strings.Replace(config, `"`+u.name+`:9090"`, `"`+u.admin+`"`, 1)
	}
	dir, address := s.t.TempDir(), freeAddress(s.t)
	require.NoError(s.t, os.WriteFile(filepath.Join(dir, "prometheus.yml"), []byte(config), 0o600))
	process := launch(s.t, "prometheus", []string{
		"prometheus", "--config.file=" + filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path=" + filepath.Join(dir, "data"), "--web.listen-address=" + address, "--enable-feature=exemplar-storage",
	}, environ())
	s.t.Cleanup(process.Kill)
	p := prometheus{s.t, "http://" + address}
	poll(s.t, startTimeout, "Prometheus is ready", func() bool {
		res, err := http.Get(p.url + "/-/ready")
		if err != nil {
			return false
		}
		_ = res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
	return p
}

// get reads from the API of Prometheus.
func (p prometheus) get(path string, into any) {
	p.t.Helper()
	res, err := http.Get(p.url + path)
	require.NoError(p.t, err)
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	require.NoError(p.t, err)
	require.Equal(p.t, http.StatusOK, res.StatusCode, "%s: %s", path, body)
	require.NoError(p.t, json.Unmarshal(body, &struct{ Data any }{into}))
}

// query returns the values of an expression that are numbers.
func (p prometheus) query(expr string) (values []float64) {
	p.t.Helper()
	var data struct {
		Result []struct{ Value [2]any }
	}
	p.get("/api/v1/query?query="+url.QueryEscape(expr), &data)
	for _, r := range data.Result {
		v, err := strconv.ParseFloat(fmt.Sprint(r.Value[1]), 64)
		require.NoError(p.t, err)
		if !math.IsNaN(v) {
			values = append(values, v)
		}
	}
	return values
}

// requireRules requires that each rule is evaluated, that what is recorded has values, and that each metric of an alert exists: an alert
// on a metric that does not exist would never fire.
func (p prometheus) requireRules() {
	p.t.Helper()
	var data struct {
		Groups []struct {
			Rules []struct{ Name, Type, Health, LastError, Query string }
		}
	}
	p.get("/api/v1/rules", &data)
	require.Len(p.t, data.Groups, 4)
	increase := regexp.MustCompile(`increase\((\w+(?:\{[^}]*\})?)\[`)
	metric := regexp.MustCompile(`\b(convoflow|process|go|pgxpool|up)(_\w+)?\b`)
	for _, g := range data.Groups {
		for _, r := range g.Rules {
			assert.Equal(p.t, "ok", r.Health, "%s: %s", r.Name, r.LastError)
			if r.Type == "recording" {
				// A rate needs two samples since the first failure, and then an evaluation of the rule.
				poll(p.t, script.Timeout, r.Name+" has values", func() bool { return len(p.query("last_over_time("+r.Name+"[10m])")) > 0 })
				continue
			}
			for _, name := range metric.FindAllString(regexp.MustCompile(`"[^"]*"`).ReplaceAllString(r.Query, `""`), -1) {
				assert.NotEmpty(p.t, p.query(`count(last_over_time({__name__="`+name+`"}[10m]))`), "%s of %s", name, r.Name)
			}
			// Prometheus sees no increase in the first value of a series: what shall alert when it happens once is there, as 0, before.
			for _, counter := range increase.FindAllStringSubmatch(r.Query, -1) {
				assert.NotEmpty(p.t, p.query(counter[1]), "%s of %s", counter[1], r.Name)
			}
		}
	}
}

// requireBoundedLabels requires that no label has values of which there is one for each call, person, request or trace.
func (p prometheus) requireBoundedLabels() {
	p.t.Helper()
	var names []string
	p.get("/api/v1/labels", &names)
	unbounded := regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}|[0-9a-f]{16}|@|\d{7}`)
	for _, name := range names {
		var values []string
		p.get("/api/v1/label/"+name+"/values", &values)
		for _, value := range values {
			if name != "le" {
				assert.NotRegexp(p.t, unbounded, value, "label %s", name)
			}
		}
	}
}

// requireExemplars requires that a slow bucket leads to a trace.
func (p prometheus) requireExemplars() {
	p.t.Helper()
	now := clock.System{}.Now().Unix()
	for _, metric := range []string{"convoflow_operation_duration_seconds_bucket", "convoflow_gateway_request_duration_seconds_bucket", "convoflow_consumer_delay_seconds_bucket"} {
		var data []struct {
			Exemplars []struct{ Labels map[string]string }
		}
		p.get(fmt.Sprintf("/api/v1/query_exemplars?query=%s&start=%d&end=%d", metric, now-3600, now+60), &data)
		require.NotEmpty(p.t, data, metric)
		require.Len(p.t, data[0].Exemplars[0].Labels["trace_id"], 32, metric)
	}
}
