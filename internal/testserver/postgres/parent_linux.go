package postgres

import "syscall"

// endWithParent has the kernel send SIGQUIT, PostgreSQL's immediate shutdown, to the child when the
// thread that started it is gone.
func endWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGQUIT }
