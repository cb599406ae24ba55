package job

import "slices"

// Selector says which jobs are meant. What is left out holds for any job.
type Selector struct {
	Owner string   // whose they are
	Jobs  []ID     // any of these
	Kinds []string // of any of these
	Tags  []string // with all of these
	Batch string   // of this one
}

// Labels are what a Selector goes by: they are with a job from its first event on, and
// never change.
type Labels struct {
	ID    ID
	Owner string
	Kind  string
	Tags  []string
	Batch string
}

// Labels returns the job's.
func (j *Job) Labels() Labels {
	return Labels{ID: j.ID, Owner: j.Owner, Kind: j.Kind, Tags: j.Tags, Batch: j.Batch}
}

// Takes reports whether a job with these labels is meant.
func (s *Selector) Takes(l *Labels) bool {
	return (s.Owner == "" || s.Owner == l.Owner) &&
		(s.Batch == "" || s.Batch == l.Batch) &&
		(len(s.Kinds) == 0 || slices.Contains(s.Kinds, l.Kind)) &&
		s.tagged(l.Tags) &&
		(len(s.Jobs) == 0 || slices.Contains(s.Jobs, l.ID))
}

func (s *Selector) tagged(tags []string) bool {
	for _, t := range s.Tags {
		if !slices.Contains(tags, t) {
			return false
		}
	}
	return true
}
