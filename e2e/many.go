package e2e

// many is what a reader of many jobs has beside its events.
type many struct {
	query string
	at    string // the last id
}

// takeOne writes down one event of many jobs. A snapshot is none: who follows from before a
// job was has all of it.
func (r *reader) takeOne(e event) error {
	if e.ID != "" {
		r.many.at = e.ID
	}
	switch {
	case e.Type == "stream.reset" && len(r.events) > 0:
		return surprise("to start over: " + e.raw)
	case e.Type == "stream.reset":
		return nil
	}
	r.events = append(r.events, e)
	r.seen.Add(1)
	if r.hang() {
		return errHungUp
	}
	return nil
}
