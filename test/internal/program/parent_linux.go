package program

import "syscall"

// KillWithParent makes the kernel kill a child when this process dies, for any reason.
func KillWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
