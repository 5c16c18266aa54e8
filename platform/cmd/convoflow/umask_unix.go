//go:build unix

package main

import "syscall"

// makeFilesPrivate makes every file that this process and its children create accessible by its owner only.
func makeFilesPrivate() { syscall.Umask(0o077) }
