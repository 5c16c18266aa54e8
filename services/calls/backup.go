package calls

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/convoflow/convoflow/services/calls/internal/audio"
	"github.com/convoflow/convoflow/services/calls/internal/bucket"
)

// Recordings counts files of the bucket.
type Recordings struct {
	Files   int   `json:"files"`
	Bytes   int64 `json:"bytes"`
	Copied  int   `json:"copied"`  // to or from the backup
	Missing int   `json:"missing"` // neither in the bucket nor in the backup
}

func (c Config) openBucket(ctx context.Context) (*bucket.Bucket, error) {
	return bucket.Open(ctx, c.StorageURL, c.maxBytes(), audio.Sniff)
}

// BackUpRecordings writes a manifest of the bucket, one JSON object per line, and copies the files into a directory unless that is
// empty text.
func BackUpRecordings(ctx context.Context, cfg Config, manifest io.Writer, copies string) (n Recordings, err error) {
	b, err := cfg.openBucket(ctx)
	if err != nil {
		return n, err
	}
	defer b.Close()
	lines := json.NewEncoder(manifest)
	err = b.All(ctx, func(o bucket.Object, copyTo func(io.Writer) error) error {
		if copies != "" {
			if err := writeFile(copies, o.Key, copyTo); err != nil {
				return err
			}
			n.Copied++
		}
		n.Files++
		n.Bytes += o.Size
		return lines.Encode(o)
	})
	return n, err
}

// writeFile writes a file below a directory, and nowhere else.
func writeFile(dir, key string, write func(io.Writer) error) error {
	if !filepath.IsLocal(filepath.FromSlash(key)) {
		return fmt.Errorf("the key %q is no path below a directory", key)
	}
	path := filepath.Join(dir, filepath.FromSlash(key))
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(write(f), f.Sync(), f.Close()); err != nil {
		_ = os.Remove(path)
		return err
	}
	return nil
}

// RestoreRecordings checks that the bucket has the files of a manifest, copies those that it has not from the directory of a backup, and
// calls missing for those that are in neither.
func RestoreRecordings(ctx context.Context, cfg Config, manifest io.Reader, copies string, missing func(key string)) (n Recordings, err error) {
	b, err := cfg.openBucket(ctx)
	if err != nil {
		return n, err
	}
	defer b.Close()
	for lines := json.NewDecoder(manifest); ; {
		var o bucket.Object
		if err := lines.Decode(&o); errors.Is(err, io.EOF) {
			return n, nil
		} else if err != nil {
			return n, fmt.Errorf("read the manifest of the recordings: %w", err)
		}
		n.Files++
		n.Bytes += o.Size
		found, err := b.Has(ctx, o)
		if err != nil {
			return n, err
		}
		if found {
			continue
		}
		f, err := openCopy(copies, o)
		if errors.Is(err, os.ErrNotExist) {
			n.Missing++
			missing(o.Key)
			continue
		}
		if err != nil {
			return n, err
		}
		if err := errors.Join(b.Restore(ctx, o.Key, f), f.Close()); err != nil {
			return n, err
		}
		n.Copied++
	}
}

// openCopy opens a recording of a backup. One that is cut off is none: it must not be taken for the recording.
func openCopy(copies string, o bucket.Object) (*os.File, error) {
	f, err := os.OpenInRoot(copies, filepath.FromSlash(o.Key))
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Size() != o.Size {
		err = os.ErrNotExist
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}
