//go:build !nogcs

package bucket

import _ "gocloud.dev/blob/gcsblob" // gs://bucket
