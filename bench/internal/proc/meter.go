package proc

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strconv"
	"syscall"
	"time"
)

// meterService is the name that the methods of a meter are called by.
const meterService = "Meter"

// meter tells what the process has used; every part has one.
type meter struct{}

// CPU answers with the processor time that the process has used so far, the
// kernel's on its behalf included.
func (meter) CPU(_ struct{}, used *time.Duration) error {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return err
	}
	*used = time.Duration(u.Utime.Nano() + u.Stime.Nano())
	return nil
}

// CPU returns the processor time that the process has used so far.
func (p *Process) CPU() (used time.Duration, err error) {
	return used, p.Client.Call(meterService+".CPU", struct{}{}, &used)
}

// Memory is what a process takes of it.
type Memory struct {
	Resident   int64 // bytes, as the kernel counts them
	Heap       int64 // bytes in use
	Stack      int64 // bytes in use
	Goroutines int64
}

// Memory answers with what is left after everything was collected and given back.
func (meter) Memory(_ struct{}, m *Memory) error {
	debug.FreeOSMemory()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	m.Heap, m.Stack, m.Goroutines = int64(s.HeapAlloc), int64(s.StackInuse), int64(runtime.NumGoroutine())
	var err error
	m.Resident, err = resident()
	return err
}

// Memory returns what the process takes when it has collected its garbage.
func (p *Process) Memory() (m Memory, err error) {
	return m, p.Client.Call(meterService+".Memory", struct{}{}, &m)
}

// resident returns the resident set of this process: the second field of statm,
// in pages.
func resident() (int64, error) {
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, err
	}
	fields := bytes.Fields(statm)
	if len(fields) < 2 {
		return 0, fmt.Errorf("statm is %q", statm)
	}
	pages, err := strconv.ParseInt(string(fields[1]), 10, 64)
	return pages * int64(os.Getpagesize()), err
}

const profileVariable = "MILLSTREAM_BENCH_PROFILE"

// profile takes a CPU profile until stop is called, if one is asked for.
func profile() (stop func(), err error) {
	prefix := os.Getenv(profileVariable)
	if prefix == "" {
		return func() {}, nil
	}
	f, err := os.Create(prefix + strconv.Itoa(os.Getpid()) + ".prof")
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, err
	}
	return func() { pprof.StopCPUProfile(); _ = f.Close() }, nil
}
