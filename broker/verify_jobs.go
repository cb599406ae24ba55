package broker

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/millstream/millstream/pkg/job"
)

// logged is a job of the log, folded as a start folds it; see Broker.replayInto.
type logged struct {
	job     job.Job
	subject string
	first   uint64 // position of its first message
	epoch   uint64
	damaged *Finding
	moved   bundle // what its part record has
	remnant bool   // its first message was not there
	ended   bool   // its last message says that it is over
}

// packed is a part in the archive: from which seq to which, or what is wrong with it.
type packed struct {
	first, next uint64
	err         error
}

// logged says what is wrong with a message of the log. What is wrong with a job is told when
// all of it was seen: the rest of one that is archived may be anything.
func (v *verifier) logged(m *located) string {
	kind, id, ok := parseSubject(m.subject)
	if !ok {
		m.then = "nobody asks for it: " + nothingLost
		return "a message of the log is no job's"
	}
	l := v.jobs[id]
	if l == nil {
		l = &logged{job: job.Job{ID: id, Kind: kind}, subject: m.subject, first: m.position}
		v.jobs[id] = l
	}
	if err := v.fold(l, m); err != nil && l.damaged == nil {
		f := m.finding(err.Error())
		l.damaged = &f
	}
	_, _, err := intact(m.subject, m.data)
	m.damaged = err != nil
	return ""
}

func (v *verifier) fold(l *logged, s *located) error {
	m, err := decode(s.subject, s.data)
	if err == nil && m.moved() {
		return v.restore(l, m)
	}
	if err == nil && l.damaged != nil {
		l.ended = m.ends()
	}
	if err != nil || l.damaged != nil {
		return err
	}
	l.remnant = !l.job.Exists() && m.First > 1
	l.ended = m.ends()
	if err := l.follows(m, s.subject); err != nil {
		return err
	}
	return m.fold(&l.job, s.position)
}

// follows says what of a message cannot be of the same job as those before.
func (l *logged) follows(m *frame, subject string) error {
	switch {
	case subject != l.subject:
		return fmt.Errorf("the message lies under %s, those before it under %s", subject, l.subject)
	case l.job.Exists() && m.Owner != l.job.Owner:
		return fmt.Errorf("the message is of owner %q, those before it are of %q", m.Owner, l.job.Owner)
	case m.Epoch < l.epoch:
		return fmt.Errorf("the message is of epoch %d, one before it is of %d", m.Epoch, l.epoch)
	}
	l.epoch = m.Epoch
	return nil
}

// restore takes a part record for all that came before it.
func (v *verifier) restore(l *logged, m *frame) error {
	a, err := decodeArchive(string(m.ID), m.Attachment)
	if err != nil || a.Live == nil {
		return errDamaged
	}
	l.job, l.remnant, l.ended, l.damaged, l.epoch = a.Job, false, false, nil, m.Epoch
	l.job.Lease, l.job.Request = a.Live.Lease, a.Live.Request
	if a.Live.Damage != "" {
		return errors.New(a.Live.Damage)
	}
	l.moved = bundleOf(a, subjectOf(m.Kind, m.ID))
	return nil
}

// archived says what is wrong with a message of the archive.
func (v *verifier) archived(m *located) string {
	name := m.subject[len(donePrefix):]
	switch strings.Count(name, ".") {
	case 0:
		return v.head(name, m)
	case 1:
		p := partOf(jobOf(m.subject), m.data)
		v.parts[name], m.damaged = p, p.err != nil
	default:
		sound := len(m.data) >= 4 && string(m.data[:4]) == string(pieceSum(name, m.data[4:]))
		v.pieces[name], m.damaged = sound, !sound
	}
	return "" // whoever names them will tell
}

// head says what is wrong with the head of a finished job.
func (v *verifier) head(name string, m *located) string {
	a, err := decodeArchive(name, m.data)
	if err != nil {
		v.ended++
		return "the entry of a finished job is damaged"
	}
	v.finished[a.Job.ID] = true
	if v.marks == nil || m.position <= v.marks.Ended || a.Job.Erased {
		v.kept.add(&a.Job)
	}
	if a.Job.Erased {
		return "" // it has nothing
	}
	v.bundles = append(v.bundles, bundleOf(a, subjectOf(a.Job.Kind, a.Job.ID)))
	v.bits = append(v.bits, needs(&a.Job)...)
	return ""
}

// partOf looks through a part: all its messages are whole, and follow each other.
func partOf(id job.ID, body []byte) (p packed) {
	if len(body) == 0 {
		return p // it was dismissed, and expires
	}
	return sequence(subjectOf("k", id), body) // a part does not know its kind
}

// sequence looks through packed messages.
func sequence(subject string, body []byte) (p packed) {
	messages, err := unpack(subject, body)
	for _, s := range messages {
		var m *frame
		if m, err = decode(subject, s.data); err != nil {
			break
		}
		if p.next > 0 && m.First != p.next {
			err = fmt.Errorf("seq %d is followed by %d", p.next-1, m.First)
			break
		}
		if p.first == 0 {
			p.first = m.First
		}
		p.next = m.First + uint64(len(m.Records))
	}
	p.err = err
	return p
}

// bundle is what was packed of a job: up to its record last, in parts or in one piece.
type bundle struct {
	job   job.ID
	last  uint64
	parts int
	whole packed // if there are no parts
}

func bundleOf(a *archive, subject string) bundle {
	b := bundle{job: a.Job.ID, last: a.Job.Cursor.Seq, parts: len(a.Parts)}
	if b.parts == 0 {
		b.whole = sequence(subject, a.pack)
	}
	return b
}

// join returns the packed messages of b as one sequence.
func (v *verifier) join(b bundle) packed {
	if b.parts == 0 {
		return b.whole
	}
	all := packed{first: 1, next: 1}
	for n := range b.parts {
		p, there := v.parts[partName(string(b.job), n)]
		switch {
		case !there:
			return packed{err: fmt.Errorf("part %d of %d is gone", n+1, b.parts)}
		case p.err != nil:
			return p
		case p.first != all.next:
			return packed{err: fmt.Errorf("part %d of %d begins at seq %d, expected %d", n+1, b.parts, p.first, all.next)}
		}
		all.next = p.next
	}
	return all
}

// checkBundle reports a job whose packed messages are not all there.
func (v *verifier) checkBundle(b bundle) {
	p := v.join(b)
	if p.err == nil && (p.first != 1 || p.next != b.last+1) {
		p.err = fmt.Errorf("they end at seq %d of %d", p.next-1, b.last)
	}
	if p.err != nil {
		v.report(Finding{What: fmt.Sprintf("the packed messages of a job are damaged: %v", p.err), Then: "its events answer 500 (job-damaged) from there on", Stream: doneStream, Job: b.job})
	}
}

// bits are the pieces of a job's result, or of its input, that lie in the archive.
type bits struct {
	job   job.ID
	of    string
	then  string
	name  string // what their names begin with
	count int64
	all   int64 // of the last one may lie with the job's messages
}

// needs returns the pieces that a job needs.
func needs(j *job.Job) (all []bits) {
	if u := j.Upload; u != nil && u.Size > 0 {
		n := (u.Size-1)/job.PieceSize + 1
		all = append(all, bits{j.ID, "an input", "the job is served; its work, or a retry of it, fails (job-damaged)", uploadName(u.ID), n, n})
	}
	if r := j.Result; r != nil && !r.Output && r.Size > job.PieceSize {
		n := (r.Size - 1) / job.PieceSize
		all = append(all, bits{j.ID, "a result", "the job is served, its result breaks off there", piecesName(j.ID, r.Lease), n, n + 1})
	}
	return all
}

// checkBits reports the pieces that are not there.
func (v *verifier) checkBits(b bits) {
	for n := range b.count {
		sound, there := v.pieces[b.name+"."+strconv.FormatInt(n, 10)]
		if sound {
			continue
		}
		why := "gone"
		if there {
			why = "damaged"
		}
		v.report(Finding{What: fmt.Sprintf("piece %d of %d of %s is %s", n+1, b.all, b.of, why), Then: b.then, Stream: doneStream, Job: b.job})
	}
}
