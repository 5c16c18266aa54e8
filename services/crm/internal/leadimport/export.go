package leadimport

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/convoflow/convoflow/libs/page"
	"github.com/convoflow/convoflow/services/crm/internal/lead"
)

// exportPage is how many leads an export reads at once.
const exportPage = 500

// Lister lists the leads that the caller may see.
type Lister interface {
	List(ctx context.Context, req lead.ListRequest) (page.Of[lead.Lead], error)
}

// Exporter exports leads.
type Exporter struct{ Leads Lister }

// Export is a file that is written while it is read.
type Export struct {
	leads Lister
	req   lead.ListRequest
	first page.Of[lead.Lead]
}

// Export begins the export of the leads that the list with this query shows.
func (e *Exporter) Export(ctx context.Context, req lead.ListRequest) (Export, error) {
	req.Request = page.Request{Limit: exportPage}
	first, err := e.Leads.List(ctx, req)
	return Export{e.Leads, req, first}, err
}

// Write writes the file: UTF-8 with a byte-order mark, by which spreadsheets recognize it, and no cell that is a formula.
func (e Export) Write(ctx context.Context, w io.Writer) error {
	if _, err := io.WriteString(w, "\ufeff"); err != nil {
		return err
	}
	out := csv.NewWriter(w)
	out.UseCRLF = true
	names := lead.FieldNames()
	header := append([]string{"id", "phone", "assigned_agent_id"}, names...)
	if err := out.Write(append(header, "extra_data", "created_at", "updated_at")); err != nil {
		return err
	}
	for found := e.first; ; {
		for i := range found.Items {
			cells, err := recordOf(&found.Items[i], names)
			if err != nil {
				return err
			}
			if err := out.Write(cells); err != nil {
				return err
			}
		}
		out.Flush()
		if err := out.Error(); err != nil {
			return err
		}
		if found.Next == "" {
			return nil
		}
		e.req.Cursor = found.Next
		next, err := e.leads.List(ctx, e.req)
		if err != nil {
			return fmt.Errorf("read the next leads of an export: %w", err)
		}
		found = next
	}
}

// recordOf returns the cells of a lead.
func recordOf(l *lead.Lead, names []string) ([]string, error) {
	raw, err := json.Marshal(l)
	if err != nil {
		return nil, fmt.Errorf("marshal lead %s: %w", l.ID, err)
	}
	var values map[string]json.RawMessage
	if err := json.Unmarshal(raw, &values); err != nil {
		return nil, fmt.Errorf("read lead %s: %w", l.ID, err)
	}
	agent := ""
	if l.AssignedAgentID != nil {
		agent = *l.AssignedAgentID
	}
	cells := []string{l.ID, l.Number(), agent}
	for _, name := range names {
		cells = append(cells, cell(values[name]))
	}
	extra := ""
	if len(l.ExtraData) > 0 {
		extra = string(values["extra_data"])
	}
	cells = append(cells, extra, l.CreatedAt.Format(time.RFC3339Nano), l.UpdatedAt.Format(time.RFC3339Nano))
	for i := range cells {
		cells[i] = Neutralize(cells[i])
	}
	return cells, nil
}

// cell returns a JSON value as a text.
func cell(raw json.RawMessage) string {
	var s *string
	if json.Unmarshal(raw, &s) == nil {
		if s == nil {
			return ""
		}
		return *s
	}
	if n, err := strconv.ParseFloat(string(raw), 64); err == nil {
		return strconv.FormatFloat(n, 'f', -1, 64)
	}
	return string(raw)
}

// Following is an import that a client follows.
type Following struct {
	Import
	now func(ctx context.Context) (Import, error)
}

// Now reads the import again.
func (f Following) Now(ctx context.Context) (Import, error) { return f.now(ctx) }

// Follow returns an import to follow. It fails like Get.
func (s *Service) Follow(ctx context.Context, req IDRequest) (Following, error) {
	i, err := s.own(ctx, req.ID)
	return Following{i, func(ctx context.Context) (Import, error) { return s.Imports.Find(ctx, req.ID) }}, err
}
