package job

// Guard says whether records may be stored behind a job as it stands. It is asked
// before each write, again after each refusal: whoever changed the job in
// between, the question is the same.
type Guard func(*Job) bool

// Absent holds for a job that has no record: the guard of a submit.
func Absent(j *Job) bool { return !j.Exists() }

// HeldBy holds while lease is the job's lease: the guard of all an attempt writes.
func HeldBy(lease uint64) Guard {
	return func(j *Job) bool { return j.Status == StatusRunning && j.Lease == lease }
}

// Waiting holds while the job waits for the given attempt: the guard of a claim.
func Waiting(attempt int) Guard {
	return func(j *Job) bool { return j.Status == StatusQueued && j.Attempt == attempt }
}

// Live holds until the job is over.
func Live(j *Job) bool { return j.Exists() && !j.Status.Over() }
