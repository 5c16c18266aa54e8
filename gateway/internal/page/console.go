package page

import (
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/convoflow/convoflow/console"
	"github.com/convoflow/convoflow/gateway/internal/record"
	"github.com/convoflow/convoflow/libs/fault"
)

// Console serves the console: the files built into this binary or, while it is developed, those of a directory.
func Console(dir string) (http.Handler, error) {
	if dir != "" {
		return console.Developed(os.DirFS(dir)), nil
	}
	files, err := console.Handler(console.Built())
	if err != nil {
		return nil, fmt.Errorf("open the console: %w", err)
	}
	return files, nil
}

// Home sends a browser to the console. For others there is nothing at this path.
func Home(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Vary", "Accept")
	if !strings.Contains(r.Header.Get("Accept"), "text/html") {
		record.Fail(w, r, fault.New(fault.NotFound, "not_found", "No such path"))
		return
	}
	http.Redirect(w, r, console.Path, http.StatusFound)
}
