package fault

import (
	"encoding/json"
	"os"
	"sync"
	"time"
)

// operation is what a request of the workload does.
type operation string

const (
	createClient   operation = "create client"
	changeClient   operation = "change client"
	upload         operation = "upload"
	abortUpload    operation = "abort upload"
	createFollowUp operation = "create follow-up"
	completeTask   operation = "complete follow-up"
	createLead     operation = "create lead"
	receiveLead    operation = "receive lead"
	changeLead     operation = "change lead"
	read           operation = "read"
	login          operation = "log in"
)

// entry is one request and its answer.
type entry struct {
	Number    int
	Worker    int
	Operation operation
	Mark      string // unique text in what is written, and the Idempotency-Key of a create
	Target    string // id of what is read or changed
	Began     time.Time
	Took      time.Duration
	Status    int    // 0 without an answer
	Code      string // of an error answer
	Retry     bool   // the answer has Retry-After
	Error     string // of the connection
	ID        string // of what was created
}

// answered reports whether the write was acknowledged.
func (e entry) answered() bool { return e.Status >= 200 && e.Status < 300 }

// refused reports whether the answer says that nothing was written. 503 and 504 leave that open, and so does no answer.
func (e entry) refused() bool { return e.Status >= 400 && e.Status < 500 }

// ledger is every request of a run. It is safe for concurrent use.
type ledger struct {
	mu      sync.Mutex
	entries []entry
}

func (l *ledger) add(e entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e.Number = len(l.entries) + 1
	l.entries = append(l.entries, e)
}

func (l *ledger) all() []entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]entry(nil), l.entries...)
}

// save writes the ledger as one JSON object per line.
func (l *ledger) save(path string) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	encoder := json.NewEncoder(file)
	for _, e := range l.all() {
		if err := encoder.Encode(e); err != nil {
			_ = file.Close()
			return err
		}
	}
	return file.Close()
}
