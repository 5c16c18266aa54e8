package bucket

import (
	"context"
	"fmt"
	"io"

	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"

	"github.com/convoflow/convoflow/libs/network"
)

// Object is a file of the bucket.
type Object struct {
	Key  string `json:"key"`
	Size int64  `json:"size"`
}

// All calls do with every file, for a backup. do may read the file with r, which copies it.
func (b *Bucket) All(ctx context.Context, do func(o Object, copyTo func(io.Writer) error) error) error {
	if err := network.Check(ctx); err != nil {
		return err
	}
	objects := b.blobs.List(nil)
	for {
		o, err := objects.Next(ctx)
		if err == io.EOF { //nolint:errorlint // the iterator returns it bare
			return nil
		}
		if err != nil {
			return unavailable("list", err)
		}
		if o.IsDir {
			continue
		}
		err = do(Object{o.Key, o.Size}, func(w io.Writer) error { return b.blobs.Download(ctx, o.Key, w, nil) })
		if err != nil && gcerrors.Code(err) != gcerrors.NotFound { // removed meanwhile
			return fmt.Errorf("back up %s: %w", o.Key, err)
		}
	}
}

// Has reports whether the bucket has a file of that size.
func (b *Bucket) Has(ctx context.Context, o Object) (bool, error) {
	if err := network.Check(ctx); err != nil {
		return false, err
	}
	found, err := b.blobs.Attributes(ctx, o.Key)
	if gcerrors.Code(err) == gcerrors.NotFound {
		return false, nil
	}
	if err != nil {
		return false, unavailable("find", err)
	}
	return found.Size == o.Size, nil
}

// Restore writes a file from a backup.
func (b *Bucket) Restore(ctx context.Context, key string, r io.Reader) error {
	if err := network.Check(ctx); err != nil {
		return err
	}
	// It was sniffed when it was uploaded. The content type is in the database.
	if err := b.blobs.Upload(ctx, key, r, &blob.WriterOptions{ContentType: "application/octet-stream"}); err != nil {
		return unavailable("write", err)
	}
	return nil
}
