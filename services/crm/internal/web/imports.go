package web

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/convoflow/convoflow/libs/rpc"
	"github.com/convoflow/convoflow/services/crm/internal/leadimport"
)

const (
	progressInterval  = 500 * time.Millisecond // between two looks at an import
	heartbeatInterval = 15 * time.Second
)

// importRoutes are the operations that import and export leads.
func importRoutes(r *rpc.Router, imports *leadimport.Service, exports *leadimport.Exporter) {
	view, status := rpc.View(viewOutcome), rpc.StatusOf(statusOfOutcome)
	file := rpc.File[leadimport.Request, leadimport.Outcome]{
		Field: "file", MaxBytes: leadimport.MaxBytes, TooLarge: leadimport.TooLarge(), Ready: imports.Ready, Store: imports.Stage, Discard: imports.Discard,
	}
	rpc.HandleForm(r, "POST /leads/import", "crm.import_leads", file, imports.Import, view, status)
	rpc.Handle(r, "GET /leads/imports/{id}", "crm.get_import", imports.Get, view)
	rpc.Handle(r, "GET /leads/imports/{id}/rows", "crm.list_import_rows", imports.ListRows)
	rpc.Handle(r, "GET /leads/imports/{id}/events", "crm.follow_import", imports.Follow, rpc.Respond(streamImport))
	rpc.Handle(r, "POST /leads/imports/{id}/revert", "crm.revert_import", imports.Revert, view, status)
	rpc.Handle(r, "GET /leads/export.csv", "crm.export_leads", exports.Export, rpc.Respond(writeExport))
}

// statusOfOutcome is 202 while the work goes on.
func statusOfOutcome(o leadimport.Outcome) int {
	if o.Working() {
		return http.StatusAccepted
	}
	return http.StatusOK
}

// importView is an import as the API shows it.
type importView struct {
	leadimport.Import
	Processed int                 `json:"processed"`
	Rows      []leadimport.Result `json:"rows"`
}

func viewOutcome(o leadimport.Outcome) any {
	if o.Rows == nil {
		o.Rows = []leadimport.Result{}
	}
	return importView{o.Import, o.Processed(), o.Rows}
}

// streamImport writes server-sent events: the import whenever it has changed, until its work ends.
func streamImport(w http.ResponseWriter, r *http.Request, f leadimport.Following) error {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	control := http.NewResponseController(w)
	ticker := time.NewTicker(progressInterval)
	defer ticker.Stop()
	current, seen, quiet := f.Import, int64(-1), time.Duration(0)
	for {
		var err error
		switch {
		case current.Version != seen:
			err = writeEvent(w, current)
			seen, quiet = current.Version, 0
		case quiet >= heartbeatInterval:
			_, err = fmt.Fprint(w, ": still there\n\n")
			quiet = 0
		}
		if err == nil {
			err = control.Flush()
		}
		if err != nil || !current.Working() {
			return err
		}
		select {
		case <-r.Context().Done():
			return context.Cause(r.Context())
		case <-ticker.C:
			quiet += progressInterval
		}
		if current, err = f.Now(r.Context()); err != nil {
			return err
		}
	}
}

func writeEvent(w http.ResponseWriter, i leadimport.Import) error {
	raw, err := json.Marshal(importView{i, i.Processed(), []leadimport.Result{}})
	if err != nil {
		return fmt.Errorf("marshal an import: %w", err)
	}
	_, err = fmt.Fprintf(w, "id: %d\nevent: progress\ndata: %s\n\n", i.Version, raw)
	return err
}

// writeExport writes a CSV file, page by page.
func writeExport(w http.ResponseWriter, r *http.Request, e leadimport.Export) error {
	w.Header().Set("Content-Type", "text/csv; charset=utf-8")
	w.Header().Set("Content-Disposition", `attachment; filename="leads.csv"`)
	w.Header().Set("Cache-Control", "no-store")
	return e.Write(r.Context(), w)
}
