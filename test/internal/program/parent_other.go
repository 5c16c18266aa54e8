//go:build !linux

package program

import "syscall"

// KillWithParent only makes a process group: this kernel does not kill children with their parent, so a killed test leaves them.
func KillWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
