//go:build !linux

package run

func releaseProgram() {}
