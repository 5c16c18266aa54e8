package bucket

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// hasUploads reports whether the storage keeps the parts of unfinished uploads: S3 does.
func (b *Bucket) hasUploads() bool { return b.blobs.As(new(*s3.Client)) }

// abortUploads removes what uploads under a prefix have left in S3: those that began before a time, or all if it is zero. Their
// parts are in no list of objects and cost money: a killed process cannot abort its upload, and the SDK does not abort one whose
// context has ended. Other storages forget unfinished uploads by themselves. It returns how many it has removed.
func (b *Bucket) abortUploads(ctx context.Context, prefix string, before time.Time) (aborted int, err error) {
	var client *s3.Client
	if !b.blobs.As(&client) {
		return 0, nil
	}
	bucket, prefix := b.url.Host, b.url.Query().Get("prefix")+prefix
	pages := s3.NewListMultipartUploadsPaginator(client, &s3.ListMultipartUploadsInput{Bucket: &bucket, Prefix: &prefix})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return aborted, unavailable("list the uploads", err)
		}
		for _, u := range page.Uploads {
			if u.Initiated == nil || !before.IsZero() && !u.Initiated.Before(before) {
				continue
			}
			_, err := client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &bucket, Key: u.Key, UploadId: u.UploadId})
			if err != nil {
				return aborted, unavailable("abort an upload", err)
			}
			aborted++
		}
	}
	return aborted, nil
}
