package lease

import (
	"errors"
	"fmt"

	"github.com/convoflow/convoflow/libs/fault"
)

// Ref names the work on a row. It is what a job contains.
type Ref struct {
	ID    string `json:"id"`    // of the row
	Epoch int64  `json:"epoch"` // of its lease
}

// ReclaimEach calls reclaim for each work whose process died. An error does not delay the others. Work that goes on, or whose row
// was removed meanwhile, is no error.
func ReclaimEach(lost []Ref, reclaim func(Ref) error) error {
	var failed []error
	for _, work := range lost {
		if err := reclaim(work); err != nil && !IsSuperseded(err) {
			failed = append(failed, fmt.Errorf("reclaim %s: %w", work.ID, err))
		}
	}
	return errors.Join(failed...)
}

// IsSuperseded reports whether a change of a row failed because its work was superseded or the row removed.
func IsSuperseded(err error) bool {
	return errors.Is(err, ErrSuperseded) || fault.Is(err, fault.NotFound)
}
