package job

// Commit is one message of a job, just stored: what the folds (queue, index, hub)
// are told, in the order of the log. It is valid during the call only.
type Commit struct {
	Was    Status  // before it; "": the job is new, or was loaded at start
	Before Cursor  // of the job before it
	Job    *Job    // after it; without a status: what is stored of it is damaged; loaded from the archive, it has no Progress, Output and Result
	Events []Event // its events; none when the job was loaded at start
	Labels *Labels // the job's, one for all of its commits, which may be kept; nil when it was loaded
	Erases bool    // from this message on the job is erased
}
