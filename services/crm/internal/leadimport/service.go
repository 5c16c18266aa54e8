package leadimport

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/page"
	"github.com/convoflow/convoflow/libs/text"
	"github.com/convoflow/convoflow/services/crm/internal/inbound"
	"github.com/convoflow/convoflow/services/crm/internal/lead"
)

const (
	// MaxBytes is the size of the largest file.
	MaxBytes = 64 << 20
	// maxRows is the number of rows of a file.
	maxRows = 500_000
	// maxDirect is the number of rows that are imported while the client waits.
	maxDirect = 1000
	stageSize = 500 // rows per statement
)

// Service implements the operations on imports.
type Service struct {
	Imports        Store
	Processor      *Processor
	Mapping        inbound.Mapping
	NormalizePhone lead.NormalizePhone
	Clock          clock.Clock
}

// Request is a file with leads. Its rows are staged before the other fields of the form are known.
type Request struct {
	ImportID   string `json:"-"`
	DryRun     bool   `json:"dry_run"`
	Distribute bool   `json:"distribute"`
}

// Outcome is an import with the results of its rows, unless it has too many.
type Outcome struct {
	Import
	Rows []Result
}

// TooLarge is the fault of a larger file than MaxBytes.
func TooLarge() error {
	return fault.New(fault.TooLarge, "import_too_large", fmt.Sprintf("The file is over %d MB: split it", MaxBytes>>20))
}

// Ready is called before a file is read.
func (s *Service) Ready(ctx context.Context) error {
	_, err := identity.From(ctx)
	return err
}

// Stage stores the rows of a file while it arrives. It fails with a field for a file that is no table of leads.
func (s *Service) Stage(ctx context.Context, req *Request, _ string, content io.Reader) (fingerprint string, err error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return "", err
	}
	own, err := s.Mapping.Mapping(ctx)
	if err != nil {
		return "", err
	}
	i := Create(caller, s.Clock.Now())
	if err := s.Imports.Create(ctx, i); err != nil {
		return "", fmt.Errorf("create an import: %w", err)
	}
	req.ImportID = i.ID
	hash := sha256.New()
	err = s.stage(ctx, i.ID, inbound.NewTable(own).Also(lead.FieldNames()...), io.TeeReader(content, hash))
	if err != nil {
		if discardErr := s.Discard(ctx, *req); discardErr != nil {
			err = errors.Join(err, discardErr)
		}
		return "", err
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

func (s *Service) stage(ctx context.Context, id string, table inbound.Table, content io.Reader) error {
	file := NewReader(content)
	head, err := file.Next()
	if errors.Is(err, io.EOF) {
		return wrongFile("value_error", "The file is empty")
	}
	if err != nil {
		return err
	}
	columns, err := newColumns(head, table)
	if err != nil {
		return err
	}
	rows, total, skipped := make([]Staged, 0, stageSize), 0, 0
	for {
		row, err := file.Next()
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if err == nil {
			staged := columns.staged(row, s.NormalizePhone)
			if rows = append(rows, staged); staged.Result != "" {
				skipped++
			}
			if total++; total > maxRows {
				return wrongFile("too_long", fmt.Sprintf("The file has over %d rows: split it", maxRows))
			}
		}
		if len(rows) == stageSize || err != nil {
			if stageErr := s.Imports.Stage(ctx, id, rows); stageErr != nil {
				return fmt.Errorf("stage the rows of an import: %w", stageErr)
			}
			rows = rows[:0]
		}
		if err != nil {
			break
		}
	}
	_, err = s.Imports.Change(ctx, id, func(i *Import) error {
		i.Total, i.Skipped = total, skipped
		return nil
	})
	return err
}

func wrongFile(typ, msg string) error { return fault.Fields(fault.BodyField("file", typ, msg)) }

// Discard removes the staged rows of a refused form.
func (s *Service) Discard(ctx context.Context, req Request) error {
	err := s.Imports.Remove(context.WithoutCancel(ctx), req.ImportID)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	return err
}

// Import imports a staged file: at once if it has few rows, and otherwise in the background.
func (s *Service) Import(ctx context.Context, req Request) (Outcome, error) {
	i, err := s.Imports.Change(ctx, req.ImportID, func(i *Import) error {
		i.DryRun, i.Distribute = req.DryRun, req.Distribute
		i.start(Running, i.Total > maxDirect)
		return nil
	})
	if err != nil {
		return Outcome{}, err
	}
	return s.finished(ctx, i)
}

// finished does the work of a small import, and returns it.
func (s *Service) finished(ctx context.Context, i Import) (Outcome, error) {
	if i.Total <= maxDirect {
		if err := s.Processor.work(ctx, i.ID, i.Epoch); err != nil {
			return Outcome{}, err
		}
	}
	return s.find(ctx, i.ID)
}

// find reads an import, with the results of its rows if it is done and has few.
func (s *Service) find(ctx context.Context, id string) (Outcome, error) {
	i, err := s.Imports.Find(ctx, id)
	if err != nil || i.Total > maxDirect || i.Working() {
		return Outcome{Import: i}, err
	}
	rows, err := s.Imports.ListRows(ctx, id, "", page.All())
	return Outcome{Import: i, Rows: rows.Items}, err
}

// IDRequest names an import.
type IDRequest struct {
	ID string `path:"id" json:"-"`
}

// Get returns an import. It fails with import_not_found or import_forbidden.
func (s *Service) Get(ctx context.Context, req IDRequest) (Outcome, error) {
	if _, err := s.own(ctx, req.ID); err != nil {
		return Outcome{}, err
	}
	return s.find(ctx, req.ID)
}

func (s *Service) own(ctx context.Context, id string) (Import, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return Import{}, err
	}
	i, err := s.Imports.Find(ctx, id)
	if err != nil {
		return Import{}, err
	}
	return i, i.CheckAccess(caller)
}

// RowsRequest is the query of a report.
type RowsRequest struct {
	ID     string `path:"id"`
	Result string `query:"result"`
	page.Request
}

// ListRows returns a page of what became of the rows. It fails like Get.
func (s *Service) ListRows(ctx context.Context, req RowsRequest) (page.Of[Result], error) {
	if _, err := s.own(ctx, req.ID); err != nil {
		return page.Of[Result]{}, err
	}
	return s.Imports.ListRows(ctx, req.ID, req.Result, req.Request)
}

// Revert undoes an import: it deletes the leads that it made and restores those that it changed, except the ones that somebody has
// changed since. It fails like Get, and with import_not_revertible.
func (s *Service) Revert(ctx context.Context, req IDRequest) (Outcome, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return Outcome{}, err
	}
	i, err := s.Imports.Change(ctx, req.ID, func(i *Import) error {
		if err := i.CheckAccess(caller); err != nil {
			return err
		}
		if i.DryRun || i.State != Completed && i.State != Failed {
			return fault.New(fault.Conflict, "import_not_revertible", "Only an import that has ended can be reverted, once").With("state", string(i.State))
		}
		i.FinishedAt = nil
		i.start(Reverting, i.Total > maxDirect)
		return nil
	})
	if err != nil {
		return Outcome{}, err
	}
	return s.finished(ctx, i)
}

// columns are the columns of a file.
type columns struct {
	table inbound.Table
	names []string
}

// unread are the columns of an export that an import leaves out: the platform sets them.
var unread = []string{"created_at", "updated_at", "client_id", "status_reason"}

// newColumns reads the first row. A name that comes twice gets a number, so that nothing of the file is lost.
func newColumns(head Row, table inbound.Table) (columns, error) {
	if head.Problem != "" {
		return columns{}, wrongFile("value_error", "The first row should have the names of the columns: "+head.Problem)
	}
	if len(head.Cells) > maxColumns {
		return columns{}, wrongFile("too_long", fmt.Sprintf("The file should have at most %d columns", maxColumns))
	}
	c := columns{table: table}
	seen, hasPhone := map[string]int{}, false
	for n, cell := range head.Cells {
		name := cmp.Or(text.Clean(Plain(cell)), "column "+strconv.Itoa(n+1))
		if seen[name]++; seen[name] > 1 && !table.IsPhone(name) && table.Field(name) == "" {
			name += " " + strconv.Itoa(seen[name])
		}
		hasPhone = hasPhone || table.IsPhone(name)
		c.names = append(c.names, name)
	}
	if !hasPhone {
		return columns{}, wrongFile("value_error", "No column is a phone number: name one phone")
	}
	return c, nil
}

// staged returns a row as it is stored.
func (c columns) staged(row Row, normalize lead.NormalizePhone) Staged {
	s := Staged{Line: row.Line}
	if row.Problem != "" {
		s.done(Skipped, row.Problem, nil)
		return s
	}
	var values []inbound.Value
	extra := lead.Extra{}
	for n, cell := range row.Cells {
		content := text.Clean(Plain(cell))
		if content == "" {
			continue
		}
		name := "column " + strconv.Itoa(n+1)
		if n < len(c.names) {
			name = c.names[n]
		}
		switch {
		case name == "id" && event.ValidID(content):
			s.Data.LeadID = content
		case name == "assigned_agent_id" && event.ValidID(content):
			s.Data.AgentID = content
		case name == "extra_data" && json.Unmarshal([]byte(content), &extra) == nil:
		case isUnread(name):
		default:
			values = append(values, inbound.Value{Key: name, JSON: inbound.Text(content)})
		}
	}
	s.Data.Incoming = c.table.Arrange(values, normalize)
	for name, value := range extra {
		s.Data.SetExtra(name, value)
	}
	if s.Data.empty() {
		s.Data = Record{}
		s.done(Skipped, "it has no phone number", nil)
	}
	return s
}

func isUnread(name string) bool {
	for _, n := range unread {
		if strings.EqualFold(n, name) {
			return true
		}
	}
	return false
}
