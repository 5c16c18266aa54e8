//go:build !noazure

package bucket

import _ "gocloud.dev/blob/azureblob" // azblob://container
