package torture

import "time"

// trial is all that is known of one job.
type trial struct {
	id, kind string
	accepted bool
	state    string // as the audit found it; "": it is gone
	canceled bool   // somebody was told that it is
	asked    bool   // somebody was told that it will be
	log      reading
	readings []*reading
	runs     []string // of the upstream
	reports  []entry  // of workers, what they were told is stored
	signs    []entry  // of life, of workers

	key        string     // that it was submitted with
	of         string     // the job that it is a retry of
	due        time.Time  // it must not begin before
	heard      []entry    // what its work says that it was given
	watches    []*account // of watchers
	fetches    []*account // of fetchers
	denied     []entry    // answers that there is no such job
	shown      []entry    // answers that there is one
	probes     []entry    // behind its end
	hooked     bool       // its end is to be delivered
	deliveries []entry    // that were made
	erasing    time.Time  // somebody began to erase it
	erased     time.Time  // somebody was told that it is
	foundAs    string     // its kind, as the audit found it
	batch      string     // that it was submitted with
	foundIn    string     // its batch, as the audit found it
}

// account is what a watcher or a fetcher was answered, in order.
type account struct {
	who     string
	answers []entry
	gone    bool // it was told that there is no such job
}

// reading is what one client was given of a job, in the order in which it came.
type reading struct {
	who    string
	events []event
	over   bool // it was told that there is no more
	gone   bool // it was told that there is no such job

	asked time.Time // when it last asked for events
	given time.Time // when it asked for the last event that it was given
}

// outage is a time in which the server could not do anything.
type outage struct{ from, to time.Time }
