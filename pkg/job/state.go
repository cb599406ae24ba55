package job

// edge is a change of state that a record makes.
type edge struct {
	from Status
	on   Type
}

// edges is the state machine: what is not here does not happen. docs/states.md
// draws it.
var edges = map[edge]Status{
	{"", Queued}: StatusQueued,

	{StatusQueued, Running}:  StatusRunning,
	{StatusQueued, Canceled}: StatusCanceled,
	{StatusQueued, Failed}:   StatusFailed, // its time is over

	{StatusRunning, Progress}:        StatusRunning,
	{StatusRunning, Output}:          StatusRunning,
	{StatusRunning, Log}:             StatusRunning,
	{StatusRunning, CancelRequested}: StatusRunning,
	{StatusRunning, AttemptFailed}:   StatusRunning, // the job.queued or terminal record is in the same message
	{StatusRunning, Queued}:          StatusQueued,
	{StatusRunning, Succeeded}:       StatusSucceeded,
	{StatusRunning, Failed}:          StatusFailed,
	{StatusRunning, Canceled}:        StatusCanceled,
}

// next returns the state after a record of type t, and whether it may come now.
// A worker's own types change nothing and come only while it runs.
func next(from Status, t Type) (Status, bool) {
	if to, ok := edges[edge{from, t}]; ok {
		return to, true
	}
	return from, from == StatusRunning && !t.Reserved() && ValidType(t)
}
