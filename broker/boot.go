package broker

import (
	"os"
	"strings"
)

// bootID names this run of the machine's kernel; empty where the system does not
// tell, and then the epoch stays.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
