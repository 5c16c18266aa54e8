// Package bucket stores recordings in any storage of gocloud.dev/blob: a directory, S3 and compatible stores, Google Cloud
// Storage or Azure. A recording is stored completely and durably or not at all. It refuses files that are not audio, and calls
// inside a database transaction.
package bucket

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/blob/fileblob"
	_ "gocloud.dev/blob/s3blob" // s3://bucket?region=…
	"gocloud.dev/gcerrors"

	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/network"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/calls/internal/call"
)

const (
	bufferSize = 256 << 10 // bytes: fewer, larger writes; one per upload
	sniffSize  = 3 << 10   // bytes at the start of a file from which its format is detected
	pageSize   = 500       // keys per page of List
)

const (
	discardTimeout = 10 * time.Second
	discardLooks   = 10 // for the parts of an upload that should have some
	discardPause   = 200 * time.Millisecond
	multipartSize  = 16 << 20 // bytes from which an upload to S3 surely has parts
)

// Sniff detects the content type of a file from its first bytes. It returns false unless the format is accepted.
type Sniff func(head []byte) (contentType string, ok bool)

// Bucket implements call.Recordings.
type Bucket struct {
	blobs    *blob.Bucket
	url      *url.URL
	sniff    Sniff
	maxBytes int64

	Steps *telemetry.Steps // measures the requests to the storage; may be nil
}

// Open opens the bucket at a URL. Recordings above maxBytes are refused.
func Open(ctx context.Context, storageURL string, maxBytes int64, sniff Sniff) (*Bucket, error) {
	u, err := url.Parse(storageURL)
	if err != nil {
		return nil, errors.New("STORAGE_URL is not a URL")
	}
	if u.Scheme == fileblob.Scheme {
		// Temporary files are in the bucket too, so that Sweep finds those of killed processes. The type is in the database.
		query := u.Query()
		query.Set("create_dir", "true")
		query.Set("no_tmp_dir", "true")
		query.Set("metadata", "skip")
		query.Set("dir_file_mode", "0700")
		u.RawQuery = query.Encode()
	}
	blobs, err := blob.OpenBucket(ctx, u.String())
	if err != nil {
		return nil, fmt.Errorf("open the bucket of STORAGE_URL (images have s3:// and file:// only, unless they are built with another TAGS): %w", err)
	}
	return &Bucket{blobs: blobs, url: u, sniff: sniff, maxBytes: maxBytes}, nil
}

// Close closes the bucket.
func (b *Bucket) Close() { _ = b.blobs.Close() }

// Store streams r into the object key.
func (b *Bucket) Store(ctx context.Context, key string, r io.Reader) (stored call.Recording, err error) {
	if err := network.Check(ctx); err != nil {
		return call.Recording{}, err
	}
	err = b.Steps.Do(ctx, "store", "bucket store", func(ctx context.Context) error {
		stored, err = b.store(ctx, key, r)
		return err
	})
	return stored, err
}

func (b *Bucket) store(ctx context.Context, key string, r io.Reader) (call.Recording, error) {
	buffer := make([]byte, bufferSize)
	head, err := io.ReadFull(r, buffer[:sniffSize])
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return call.Recording{}, err
	}
	if head == 0 {
		return call.Recording{}, fault.Fields(fault.BodyField("audio", "audio_empty", "The file is empty"))
	}
	contentType, ok := b.sniff(buffer[:head])
	if !ok {
		return call.Recording{}, fault.Fields(fault.BodyField("audio", "audio_format", "The file is not audio in an accepted format: mp3, mp4, m4a, mpeg, mpga, wav, webm, ogg, opus, flac, aac, amr, 3gp"))
	}
	// A writer whose context is cancelled leaves no object behind.
	writing, cancel := context.WithCancel(ctx)
	defer cancel()
	w, err := b.open(writing, key, contentType)
	if err != nil {
		return call.Recording{}, err
	}
	size, sum, err := b.copy(w, r, buffer, head)
	if err != nil {
		cancel()
		_ = w.close()
		return call.Recording{}, errors.Join(err, b.discard(ctx, key, size >= multipartSize))
	}
	if err := w.finish(); err != nil {
		return call.Recording{}, errors.Join(unavailable("write", err), b.discard(ctx, key, false), b.Remove(context.WithoutCancel(ctx), key))
	}
	return call.Recording{Key: key, ContentType: contentType, SizeBytes: size, SHA256: hex.EncodeToString(sum.Sum(nil))}, nil
}

// copy writes the start of the file, which is in the buffer, and the rest of r.
func (b *Bucket) copy(w io.Writer, r io.Reader, buffer []byte, head int) (size int64, sum hash.Hash, err error) {
	sum = sha256.New()
	for n, more := head, true; ; {
		if more {
			var rest int
			rest, err = io.ReadFull(r, buffer[n:])
			n += rest
			more = err == nil
			if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				return size, sum, err
			}
		}
		if size += int64(n); size > b.maxBytes {
			return size, sum, call.TooLarge(b.maxBytes)
		}
		var hashing sync.WaitGroup                          // beside the write: each takes about half of the time
		hashing.Go(func() { _, _ = sum.Write(buffer[:n]) }) // a hash never fails
		_, err := w.Write(buffer[:n])
		hashing.Wait()
		if err != nil {
			return size, sum, unavailable("write", err)
		}
		if !more {
			return size, sum, nil
		}
		n = 0
	}
}

// writer writes an object. In a directory it also syncs it to the disk.
type writer struct {
	*blob.Writer
	file *os.File // nil elsewhere
}

func (b *Bucket) open(ctx context.Context, key, contentType string) (*writer, error) {
	w := &writer{}
	var err error
	w.Writer, err = b.blobs.NewWriter(ctx, key, &blob.WriterOptions{
		ContentType: contentType,
		BeforeWrite: func(as func(any) bool) error {
			as(&w.file)
			return nil
		},
	})
	if err != nil {
		return nil, unavailable("write", err)
	}
	return w, nil
}

func (w *writer) finish() error {
	if w.file == nil {
		return w.close()
	}
	dir := filepath.Dir(w.file.Name())
	if err := w.file.Sync(); err != nil {
		return errors.Join(err, w.close())
	}
	if err := w.close(); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// close closes the writer. That of Azure panics when the storage has failed or the upload was cancelled (gocloud.dev v0.47).
func (w *writer) close() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("close the writer: %v", p)
		}
	}()
	return w.Close()
}

// discard removes the parts of an upload that has failed, also if its client has disconnected. begun means that there should be some. The
// storage may carry out requests that were cancelled before their answer, and later than a look for what they leave: so it looks again
// until it has found something and nothing more.
func (b *Bucket) discard(ctx context.Context, key string, begun bool) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), discardTimeout)
	defer cancel()
	found := !begun || !b.hasUploads()
	for range discardLooks {
		aborted, err := b.abortUploads(ctx, key, time.Time{})
		if err != nil || aborted == 0 && found {
			return err
		}
		found = found || aborted > 0
		select {
		case <-ctx.Done():
		case <-time.After(discardPause):
		}
	}
	return nil // the sweep finds what comes later still
}

// Open opens a recording, which can be read until ctx ends.
func (b *Bucket) Open(ctx context.Context, key string) (io.ReadSeekCloser, error) {
	if err := network.Check(ctx); err != nil {
		return nil, err
	}
	var r *blob.Reader
	err := b.Steps.Do(ctx, "open", "bucket open", func(context.Context) (err error) {
		r, err = b.blobs.NewReader(ctx, key, nil) // not in the step's context: it is read later
		return found(err)
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// found is the fault of a recording that cannot be read.
func found(err error) error {
	if gcerrors.Code(err) == gcerrors.NotFound {
		return fault.Wrap(err, fault.NotFound, "audio_not_found", "The recording is not there any more")
	}
	if err != nil {
		return unavailable("read", err)
	}
	return nil
}

// Remove deletes a recording. It succeeds if there is none.
func (b *Bucket) Remove(ctx context.Context, key string) error {
	if err := network.Check(ctx); err != nil {
		return err
	}
	return b.Steps.Do(ctx, "remove", "bucket remove", func(ctx context.Context) error {
		if err := b.blobs.Delete(ctx, key); err != nil && gcerrors.Code(err) != gcerrors.NotFound {
			return unavailable("delete", err)
		}
		return nil
	})
}

// List calls page with the keys under a prefix that were last written before that time. It removes the parts of uploads that began
// before it and were never completed.
func (b *Bucket) List(ctx context.Context, prefix string, before time.Time, page func(keys []string) error) error {
	if err := network.Check(ctx); err != nil {
		return err
	}
	if _, err := b.abortUploads(ctx, prefix, before); err != nil {
		return err
	}
	token := blob.FirstPageToken
	for len(token) > 0 {
		objects, next, err := b.blobs.ListPage(ctx, token, pageSize, &blob.ListOptions{Prefix: prefix})
		if err != nil {
			return unavailable("list", err)
		}
		var keys []string
		for _, o := range objects {
			if !o.IsDir && o.ModTime.Before(before) {
				keys = append(keys, o.Key)
			}
		}
		if err := page(keys); err != nil {
			return err
		}
		token = next
	}
	return nil
}

func unavailable(what string, cause error) error {
	if errors.Is(cause, context.Canceled) {
		return cause
	}
	return fault.Wrap(fmt.Errorf("%s: %w", what, cause), fault.Unavailable, "storage_unavailable", "The storage of recordings does not answer right now, try again").After(2 * time.Second)
}
