package powercut

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
)

// verdict is what is wrong with a server that came back, beside what it had told.
type verdict struct {
	mu         sync.Mutex
	lostJobs   int // that were accepted
	lostEvents int // that were shown
	doubled    int // keys that are another job now, and ids that are another event
	words      []string
}

func (v *verdict) say(n *int, format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	*n++
	v.words = append(v.words, fmt.Sprintf(format, args...))
}

func (v *verdict) add(w *verdict) {
	v.lostJobs, v.lostEvents, v.doubled = v.lostJobs+w.lostJobs, v.lostEvents+w.lostEvents, v.doubled+w.doubled
	v.words = append(v.words, w.words...)
}

func (v *verdict) lost() int { return v.lostJobs + v.lostEvents + v.doubled }

// history is every event that anybody was ever shown, by its id.
type history struct {
	mu   sync.Mutex
	text map[string]string
}

// note remembers an event and reports whether its id was given to no other.
func (h *history) note(id, text string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	was, known := h.text[id]
	h.text[id] = text
	return !known || was == text
}

// checker asks a server that came back for what had been told.
type checker struct {
	client  client
	history *history
	verdict
}

// checkers is how many questions are asked at once.
const checkers = 16

func (c *checker) check(ctx context.Context, was told) {
	byJob := map[string][]shown{}
	for _, e := range was.events {
		byJob[e.job] = append(byJob[e.job], e)
		if !c.history.note(e.id, e.text) {
			c.say(&c.doubled, "id %s was given to two events, one of them %s", e.id, e.text)
		}
	}
	var asked sync.WaitGroup
	work := make(chan func())
	for range checkers {
		asked.Go(func() {
			for do := range work {
				do()
			}
		})
	}
	for _, j := range was.jobs {
		work <- func() { c.job(ctx, j) }
	}
	for id, events := range byJob {
		work <- func() { c.events(ctx, id, events) }
	}
	close(work)
	asked.Wait()
}

// job looks for a job by its id, and by its key.
func (c *checker) job(ctx context.Context, j accepted) {
	var is struct{ ID string }
	if err := c.client.get(ctx, "/v1/jobs/"+j.id, &is); err != nil || is.ID != j.id {
		c.say(&c.lostJobs, "%s was accepted: %v", j.id, err)
		return
	}
	if j.key == "" {
		return
	}
	id, replayed, err := c.client.submit(ctx, j.key, j.body)
	if err != nil || id != j.id || !replayed {
		c.say(&c.doubled, "the key of %s is now %q: %v", j.id, id, err)
	}
}

// events looks for the events that were shown of a job in what it has now.
func (c *checker) events(ctx context.Context, job string, events []shown) {
	now := map[string]string{}
	if err := c.log(ctx, job, now); err != nil {
		c.say(&c.lostEvents, "%s, of which %d events were shown: %v", job, len(events), err)
		c.lostMore(len(events) - 1)
		return
	}
	for _, e := range events {
		if now[e.id] != e.text {
			c.say(&c.lostEvents, "%s was shown as %s and is %q", e.id, e.text, now[e.id])
		}
	}
}

func (c *checker) lostMore(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lostEvents += n
}

// log reads all events of a job, and sees that they have no hole.
func (c *checker) log(ctx context.Context, job string, now map[string]string) error {
	for after, seq := "", uint64(0); ; {
		var page struct {
			Events []json.RawMessage
			Cursor string
		}
		if err := c.client.get(ctx, "/v1/jobs/"+job+"/events?limit=1000&after="+after, &page); err != nil {
			return err
		}
		for _, text := range page.Events {
			var e struct {
				ID  string
				Seq uint64
			}
			if err := json.Unmarshal(text, &e); err != nil {
				return err
			}
			if seq++; e.Seq != seq {
				return fmt.Errorf("seq %d where %d belongs", e.Seq, seq)
			}
			now[e.ID] = string(text)
		}
		if len(page.Events) == 0 {
			return nil
		}
		after = page.Cursor
	}
}
