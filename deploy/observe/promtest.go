package main

import (
	"fmt"
	"maps"
)

// series is an input of a test: the values of each minute, in promtool's notation.
type series struct {
	Series string `yaml:"series"`
	Values string `yaml:"values"`
	step   float64
}

const minutes = 600 // of a test

// counter grows by that much each minute.
func counter(name string, perMinute float64) series {
	return series{name, fmt.Sprintf("0+%gx%d", perMinute, minutes), perMinute}
}

// gauge has that value all the time.
func gauge(name string, value float64) series {
	return series{name, fmt.Sprintf("%g+0x%d", value, minutes), 0}
}

// until returns the counter with the growth of another one after some minutes.
func (s series) until(minute int, then series) series {
	s.Values = fmt.Sprintf("0+%gx%d %g+%gx%d", s.step, minute, s.step*float64(minute)+then.step, then.step, minutes)
	return s
}

// test is a test of promtool.
type test struct {
	Name     string        `yaml:"name"`
	Interval string        `yaml:"interval"`
	Input    []series      `yaml:"input_series"`
	Alerts   []expectation `yaml:"alert_rule_test"`
}

type expectation struct {
	At       string  `yaml:"eval_time"`
	Alert    string  `yaml:"alertname"`
	Expected []fired `yaml:"exp_alerts"`
}

type fired struct {
	Labels      map[string]string `yaml:"exp_labels"`
	Annotations map[string]string `yaml:"exp_annotations"`
}

// file is a test file of promtool.
type file struct {
	Rules    []string `yaml:"rule_files"`
	Interval string   `yaml:"evaluation_interval"`
	Tests    []test   `yaml:"tests"`
}

func testFile(rules string, tests []test) file { return file{[]string{rules}, "5m", tests} }

// symptomTests has two tests for each symptom: it fires, and it stays silent.
func symptomTests() []test {
	var tests []test
	for _, a := range symptoms() {
		labels := map[string]string{"severity": a.severity}
		maps.Copy(labels, a.with)
		for _, c := range []struct {
			name     string
			input    []series
			expected []fired
		}{{"fires", a.fires, []fired{{labels, a.annotations()}}}, {"stays silent", a.silent, []fired{}}} {
			tests = append(tests, test{Name: a.name + " " + c.name, Interval: "1m", Input: c.input, Alerts: []expectation{{At: "3h", Alert: a.name, Expected: c.expected}}})
		}
	}
	return tests
}
