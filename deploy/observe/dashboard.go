package main

import (
	"bytes"
	"encoding/json"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

// board is a dashboard: rows of panels.
type board struct {
	id, title, description string
	from                   string // begin of the time that is shown
	rows                   []row
}

type row struct {
	title  string
	panels []panel
}

// panel is a graph over time, or with single its last value.
type panel struct {
	title, description string
	unit               string // of Grafana: s, reqps, percentunit, …
	single             bool
	red, green         float64 // of a single value: red from there on, or up to there if green is larger; both 0 for no colors
	stacked            bool
	queries            []query
}

type query struct {
	expr, legend string
	exemplars    bool // leads to traces
}

const (
	perRow       = 24 // units of Grafana's grid
	graphWidth   = 8
	graphHeight  = 7
	singleWidth  = 4
	singleHeight = 4
)

// source is the variable with which the reader chooses the Prometheus.
func source() common.DataSourceRef {
	return common.DataSourceRef{Type: cog.ToPtr("prometheus"), Uid: cog.ToPtr("${datasource}")}
}

// json returns the dashboard as Grafana reads it.
func (b board) json() ([]byte, error) {
	//nolint:staticcheck // the newer schema is not what provisioning reads in the Grafana of docker-compose.yml
	built := dashboard.NewDashboardBuilder(b.title).Uid("convoflow-"+b.id).Description(b.description).Tags([]string{"convoflow"}).
		Readonly().Tooltip(dashboard.DashboardCursorSyncCrosshair).Time(b.from, "now").Refresh("30s").Timezone("browser").
		WithVariable(dashboard.NewDatasourceVariableBuilder("datasource").Label("Prometheus").Type("prometheus")).
		Link(dashboard.NewDashboardLinkBuilder("Convoflow").Type(dashboard.DashboardLinkTypeDashboards).Tags([]string{"convoflow"}).AsDropdown(true).KeepTime(true))
	for _, r := range b.rows {
		built = built.WithRow(dashboard.NewRowBuilder(r.title))
		for _, p := range r.panels {
			built = built.WithPanel(p.builder())
		}
	}
	model, err := built.Build()
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err = encoder.Encode(model)
	return out.Bytes(), err
}

func (p panel) builder() cog.Builder[dashboard.Panel] {
	if p.single {
		return p.value()
	}
	graph := timeseries.NewPanelBuilder().Title(p.title).Description(p.description).Unit(p.unit).Datasource(source()).Span(graphWidth).Height(graphHeight).
		Min(0).LineWidth(1).FillOpacity(10).ShowPoints(common.VisibilityModeNever).
		Legend(common.NewVizLegendOptionsBuilder().DisplayMode(common.LegendDisplayModeList).Placement(common.LegendPlacementBottom).ShowLegend(true)).
		Tooltip(common.NewVizTooltipOptionsBuilder().Mode(common.TooltipDisplayModeMulti).Sort(common.SortOrderDescending))
	if p.stacked {
		graph = graph.FillOpacity(40).Stacking(common.NewStackingConfigBuilder().Mode(common.StackingModeNormal))
	}
	for _, q := range p.queries {
		graph = graph.WithTarget(q.builder().Range())
	}
	return graph
}

func (p panel) value() cog.Builder[dashboard.Panel] {
	value := stat.NewPanelBuilder().Title(p.title).Description(p.description).Unit(p.unit).Datasource(source()).Span(singleWidth).Height(singleHeight).
		GraphMode(common.BigValueGraphModeArea).ReduceOptions(common.NewReduceDataOptionsBuilder().Calcs([]string{"lastNotNull"}))
	if p.red != p.green {
		value = value.ColorMode(common.BigValueColorModeValue).Thresholds(p.thresholds())
	}
	for _, q := range p.queries {
		value = value.WithTarget(q.builder().Range())
	}
	return value
}

func (p panel) thresholds() cog.Builder[dashboard.ThresholdsConfig] {
	steps := []dashboard.Threshold{{Color: "green"}, {Color: "red", Value: cog.ToPtr(p.red)}}
	if p.green > p.red {
		steps = []dashboard.Threshold{{Color: "red"}, {Color: "orange", Value: cog.ToPtr(p.red)}, {Color: "green", Value: cog.ToPtr(p.green)}}
	}
	return dashboard.NewThresholdsConfigBuilder().Mode(dashboard.ThresholdsModeAbsolute).Steps(steps)
}

func (q query) builder() *prometheus.DataqueryBuilder {
	return prometheus.NewDataqueryBuilder().Expr(q.expr).LegendFormat(q.legend).Exemplar(q.exemplars).Datasource(source())
}
