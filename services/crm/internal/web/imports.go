package web

import (
	"context"
	"io"
	"net/http"
	"strconv"

	"github.com/convoflow/convoflow/libs/rpc"
	"github.com/convoflow/convoflow/services/crm/internal/leadimport"
)

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

// progress returns the server-sent events of an import: the import whenever it has changed, until its work ends.
func progress(f leadimport.Following) rpc.Source {
	begun, seen := false, int64(0)
	return rpc.Source{Next: func(ctx context.Context) (messages []rpc.Message, err error) {
		current := f.Import
		if begun {
			if current, err = f.Now(ctx); err != nil {
				return nil, err
			}
		}
		if !begun || current.Version != seen {
			view := importView{current, current.Processed(), []leadimport.Result{}}
			messages = append(messages, rpc.Message{ID: strconv.FormatInt(current.Version, 10), Name: "progress", Data: view})
		}
		begun, seen = true, current.Version
		if !current.Working() {
			err = io.EOF
		}
		return messages, err
	}}
}

// writeExport writes a CSV file, page by page.
func writeExport(w http.ResponseWriter, r *http.Request, e leadimport.Export) error {
	w.Header().Set("Content-Type", "text/csv; charset=utf-8")
	w.Header().Set("Content-Disposition", `attachment; filename="leads.csv"`)
	w.Header().Set("Cache-Control", "no-store")
	return e.Write(r.Context(), w)
}
