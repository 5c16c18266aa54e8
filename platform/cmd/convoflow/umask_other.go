//go:build !unix

package main

// makeFilesPrivate does nothing: the files have the permissions of their directory.
func makeFilesPrivate() {}
