package main

import (
	"bytes"
	"strings"

	"go.yaml.in/yaml/v3"
)

// runbook is where the alerts are explained: each has a section with its name.
const runbook = "https://github.com/convoflow/convoflow/blob/main/docs/runbook.md#"

// Severities. A page wakes somebody up; a ticket waits for the working day.
const (
	page   = "page"
	ticket = "ticket"
)

type groups []group

type group struct {
	Name  string `yaml:"name"`
	Rules []rule `yaml:"rules"`
}

// rule is a recording rule or an alert, in the format of Prometheus.
type rule struct {
	Record      string            `yaml:"record,omitempty"`
	Alert       string            `yaml:"alert,omitempty"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for,omitempty"`
	Labels      map[string]string `yaml:"labels,omitempty"`
	Annotations map[string]string `yaml:"annotations,omitempty"`
}

// alert is an alert with the series that make it fire, and those with which it stays silent.
type alert struct {
	name     string
	severity string
	expr     string
	lasts    string // for how long before it fires
	summary  string
	fires    []series
	with     map[string]string // labels of the alert that fires, beside the severity
	silent   []series
}

func (a alert) annotations() map[string]string {
	return map[string]string{"summary": a.summary, "runbook_url": runbook + strings.ToLower(a.name)}
}

func (a alert) rule() rule {
	return rule{Alert: a.name, Expr: a.expr, For: a.lasts, Labels: map[string]string{"severity": a.severity}, Annotations: a.annotations()}
}

func rulesOf(alerts []alert) []rule {
	rules := make([]rule, len(alerts))
	for i, a := range alerts {
		rules[i] = a.rule()
	}
	return rules
}

// MarshalYAML writes the document that Prometheus reads.
func (g groups) MarshalYAML() (any, error) { return map[string][]group{"groups": g}, nil } //nolint:unparam // yaml.Marshaler

func marshal(document any) ([]byte, error) {
	var out bytes.Buffer
	out.WriteString(header)
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := encoder.Encode(document); err != nil {
		return nil, err
	}
	return out.Bytes(), encoder.Close()
}
