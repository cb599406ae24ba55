package broker

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/millstream/millstream/pkg/job"
)

// Verify walks a store that no server has open, and changes nothing. It does what a start
// does, but for the writing: each block file is mended in memory, which shows what of
// it does not fit, and what the streams keep then is held to its own checksums, and to
// what names it: a job's seq is dense, its parts and the pieces of its result are there,
// the log and the archive reach from mark to mark. What lies in the files and is not kept
// any more (deleted, replaced, expired, purged) is nobody's loss.

// Finding is damage in a store.
type Finding struct {
	What     string `json:"what"`
	Then     string `json:"then"` // what a server makes of it when it starts
	Stream   string `json:"stream,omitempty"`
	Block    int    `json:"block,omitempty"`    // number of the file; 0: it is in none
	Offset   int    `json:"offset,omitempty"`   // in the file
	Bytes    int    `json:"bytes,omitempty"`    // from there
	Position uint64 `json:"position,omitempty"` // of the message in the stream
	Subject  string `json:"subject,omitempty"`  // as far as it can be read
	Job      job.ID `json:"job,omitempty"`
}

// Checked is what Verify has looked at.
type Checked struct {
	Streams  int   `json:"streams"`
	Messages int   `json:"messages"` // that are kept
	Live     int   `json:"live"`     // jobs
	Finished int   `json:"finished"` // jobs
	Bytes    int64 `json:"bytes"`    // of the block files
	Findings int   `json:"findings"`
}

// What a server makes of damage.
const (
	nothingLost    = "nothing is lost"
	messageLost    = "the message is lost"
	jobUnavailable = "the job answers 500 (job-damaged), and harms no other"
	noStart        = "the server does not start"
	livesAnew      = "streams of many jobs that resume from an id of before start over"
	keysAnew       = "it is made anew if its job is there, else the same submit makes a second one"
)

// ErrInUse is the error of a store that a server has open.
var ErrInUse = errors.New("a server has it open: stop it first")

// Verify reports each finding, and progress in bytes. It holds one block file in memory,
// and what it has to know of each message that is kept. An error says that it could not
// look at all; a damaged store is none.
func Verify(ctx context.Context, dir string, report func(Finding), progress func(done, total int64)) (Checked, error) {
	unlock, err := holdStore(dir)
	if err != nil {
		return Checked{}, err
	}
	defer unlock()
	v := &verifier{
		dir: dir, tell: report, progress: progress, now: time.Now(),
		kept: keeping{}, finished: map[job.ID]bool{}, jobs: map[job.ID]*logged{}, parts: map[string]packed{}, pieces: map[string]bool{},
	}
	err = v.verify(ctx)
	return v.Checked, err
}

// holdStore keeps servers away from the store in dir, which has to be one.
func holdStore(dir string) (unlock func(), err error) {
	if _, err := os.Stat(streamsIn(dir)); err != nil {
		return nil, fmt.Errorf("no store in %s: %w", dir, err)
	}
	unlock, err = lockOnly(filepath.Join(dir, "LOCK"))
	if errors.Is(err, errLocked) {
		err = ErrInUse
	}
	if err != nil {
		return nil, fmt.Errorf("data directory %s: %w", dir, err)
	}
	return unlock, nil
}

// verifier is one walk over a store.
type verifier struct {
	Checked
	dir         string
	tell        func(Finding)
	progress    func(done, total int64)
	done, total int64
	now         time.Time

	marks    *marks             // nil: there are none
	epoch    bool               // there is one
	ended    int                // heads that are damaged
	kept     keeping            // see marks
	finished map[job.ID]bool    // that the archive has
	jobs     map[job.ID]*logged // that the log has
	parts    map[string]packed  // that the archive has, by name
	pieces   map[string]bool    // that it has, and whether they are as they were
	bundles  []bundle           // that must be there
	bits     []bits             // that must be there
}

func (v *verifier) report(f Finding) {
	v.Findings++
	v.tell(f)
}

// verify walks over the streams twice: which messages are kept shows only at the end.
func (v *verifier) verify(ctx context.Context) error {
	settings := newImage(v.dir, "KV_"+settingsBucket, true)
	keys, done, log := newImage(v.dir, keysStream, true), newImage(v.dir, doneStream, true), newImage(v.dir, jobsStream, false)
	hooks := newImage(v.dir, hooksStream, true)
	all := []*image{settings, keys, done, hooks, log}
	if _, err := os.Stat(hooks.dir); errors.Is(err, os.ErrNotExist) { // a store of before there were webhooks; else the marks tell
		all = []*image{settings, keys, done, log}
	}
	for _, im := range all {
		if err := im.open(); err != nil {
			return err
		}
		v.total += 2 * im.size
		v.Bytes += im.size
	}
	for _, im := range all {
		if err := v.survey(ctx, im); err != nil {
			return err
		}
	}
	for _, walk := range []struct {
		im    *image
		check func(*located) string
	}{{settings, v.setting}, {keys, v.key}, {hooks, v.delivery}, {done, v.archived}, {log, v.logged}} {
		if err := v.walk(ctx, walk.im, walk.check); err != nil {
			return err
		}
	}
	v.checkMarks(log, done, keys, hooks, settings)
	v.sort(log)
	for _, b := range v.bundles {
		v.checkBundle(b)
	}
	for _, b := range v.bits {
		v.checkBits(b)
	}
	return nil
}

// setting says what is wrong with a setting; nothing: "".
func (v *verifier) setting(m *located) string {
	name := m.subject[len(settingsPrefix):]
	value, err := unseal(name, m.data)
	m.then = noStart
	if name == livesSetting {
		m.then = livesAnew
	}
	if err != nil {
		return fmt.Sprintf("the setting %s is damaged", name)
	}
	switch name {
	case epochSetting:
		v.epoch = true
		_, err = strconv.ParseUint(string(value), 10, 64)
	case marksSetting:
		v.marks = &marks{}
		err = json.Unmarshal(value, v.marks)
		v.marks.Kept.forget(v.now)
		v.marks.KeysKept.forget(v.now)
	case livesSetting:
		err = json.Unmarshal(value, &lives{})
	}
	if err != nil {
		return fmt.Sprintf("the setting %s is no such thing: %v", name, err)
	}
	return ""
}

// key says what is wrong with the record of an idempotency key.
func (v *verifier) key(m *located) string {
	m.then = keysAnew
	value, err := unseal(m.subject[len(keysPrefix):], m.data)
	if err == nil {
		err = json.Unmarshal(value, &keyRecord{})
	}
	if err != nil {
		return "the record of an idempotency key is damaged"
	}
	return ""
}

// delivery says what is wrong with what is stored of a webhook delivery.
func (v *verifier) delivery(m *located) string {
	m.then = "it is not made, and cannot be replayed; the job is not touched"
	name := m.subject[len(hooksPrefix):]
	_, err := openDelivery(name, m.data)
	if strings.HasPrefix(name, followedPrefix) {
		_, err = unseal(name, m.data)
	}
	if err != nil {
		return "a webhook delivery is damaged"
	}
	return ""
}

// checkMarks holds the streams to what was noted of how far they reach; see Broker.checkLog.
func (v *verifier) checkMarks(log, done, keys, hooks, settings *image) {
	var m marks
	if v.marks != nil {
		m = *v.marks
		v.gone(log, "beginning", m.Purged+1, log.first)
		log.cut = log.first > m.Purged+1
	} else if !v.epoch && log.last > 0 {
		v.report(Finding{What: "the settings are gone", Then: "the server makes new ones: read tokens that it gave out end", Stream: "KV_" + settingsBucket})
	}
	v.gone(log, "end", log.last+1, max(log.noted, m.Head)+1)
	v.gone(done, "end", done.last+1, max(done.noted, m.Ended)+1)
	v.gone(keys, "end", keys.last+1, max(keys.noted, m.KeysEnded)+1)
	v.gone(hooks, "end", hooks.last+1, max(hooks.noted, m.HooksEnded)+1)
	v.gone(settings, "end", settings.last+1, settings.noted+1)
	if n := log.holes(); n > 0 {
		v.report(Finding{What: fmt.Sprintf("%d messages are missing between others", n), Then: "what was in them is lost", Stream: log.name})
	}
	if n := v.kept.missing(m.Kept) - v.ended; n > 0 {
		v.report(Finding{What: fmt.Sprintf("%d finished jobs are missing", n), Then: "they answer 404", Stream: done.name})
	}
	if n := m.KeysKept.sum() - keys.messages; n > 0 {
		v.report(Finding{What: fmt.Sprintf("the records of %d idempotency keys are missing", n), Then: keysAnew, Stream: keys.name})
	}
}

// gone reports that a stream has lost the positions from..to-1, if those are any.
func (v *verifier) gone(im *image, what string, from, to uint64) {
	if from < to {
		v.report(Finding{What: fmt.Sprintf("the %s of the stream is gone: positions %d to %d", what, from, to-1), Then: "what was in it is lost", Stream: im.name})
	}
}

// sort reports what is wrong with the jobs of the log, and counts them; see Broker.sort.
func (v *verifier) sort(log *image) {
	for id := range v.finished {
		delete(v.jobs, id) // only the purge was left to do
	}
	v.Finished = len(v.finished)
	order := make([]*logged, 0, len(v.jobs))
	for _, l := range v.jobs {
		order = append(order, l)
	}
	slices.SortFunc(order, func(x, y *logged) int { return cmp.Compare(x.first, y.first) })
	for _, l := range order {
		switch {
		case l.remnant && l.ended && !log.cut:
		case l.damaged != nil:
			v.report(*l.damaged)
		case l.job.Status.Over() && !l.job.ExpiresAt.After(v.now): // nobody asks for it any more
		default:
			v.count(l)
		}
	}
}

// count counts a job of the log that is served, and notes what it needs of the archive.
func (v *verifier) count(l *logged) {
	if l.moved.job != "" {
		v.bundles = append(v.bundles, l.moved)
	}
	v.bits = append(v.bits, needs(&l.job)...)
	if l.job.Status.Over() {
		v.Finished++
	} else {
		v.Live++
	}
}
