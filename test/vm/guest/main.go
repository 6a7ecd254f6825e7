package main

import (
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

func main() {
	if os.Getpid() != 1 {
		if err := serve(); err != nil {
			fmt.Println("guest:", err)
			os.Exit(1)
		}
		return
	}
	if err := boot(); err != nil {
		fmt.Println("guest:", err)
	}
	// The emulator ends where a machine would start again.
	fmt.Println("guest: the end:", unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART))
}

// boot prepares the machine and waits for the process that runs the jobs.
func boot() error {
	if err := prepare(); err != nil {
		return err
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the jobs: %w", err)
	}
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("wait for the jobs: %w", err)
		}
		if pid == cmd.Process.Pid {
			return nil
		}
	}
}
