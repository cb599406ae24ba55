package torture

// states goes the way of a job through its log, and says what no job may do: begin while it
// runs, or once it was asked to stop; speak while nobody has it; have an attempt again;
// end as another thing than it is.
func (j *judge) states(t *trial) {
	var w way
	for i := range t.log.events {
		j.step(t, &w, &t.log.events[i])
	}
	if t.asked && !w.asked {
		j.v.lost("%s was told to stop, and its log has no word of it", t.id)
	}
	if w.end != "" && w.end != "job."+t.state {
		j.v.lost("%s is %s, and its log ends with %s", t.id, t.state, w.end)
	}
}

// way is how far a job has come.
type way struct {
	runs    bool
	asked   bool // to stop
	attempt int
	end     string
}

func (j *judge) step(t *trial, w *way, e *event) {
	begins := e.Type == "job.running"
	switch {
	case begins && w.runs:
		j.v.doubled("%s begins at %d, while it runs", t.id, e.Seq)
	case begins && w.asked:
		j.v.lost("%s was told to stop, and begins again at %d", t.id, e.Seq)
	case !w.runs && !begins && e.Type != "job.queued" && !e.over():
		j.v.zombie("%s: a %s at %d, while nobody has the job", t.id, e.Type, e.Seq)
	case e.Attempt < w.attempt:
		j.v.reordered("%s: an event of attempt %d at %d, behind one of attempt %d", t.id, e.Attempt, e.Seq, w.attempt)
	}
	w.runs = begins || w.runs && e.Type != "job.queued" && !e.over()
	w.asked = w.asked || e.Type == "job.cancel_requested"
	w.attempt = max(w.attempt, e.Attempt)
	if e.over() {
		w.end = e.Type
	}
}
