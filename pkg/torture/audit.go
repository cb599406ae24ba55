package torture

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	// auditTime is how long the audit asks for one job: the server is well by now.
	auditTime = 30 * time.Second
	pageSize  = 1000
)

// audit writes down what the server has of each job that was accepted.
func (s *session) audit(ctx context.Context) error {
	s.ctx = ctx // the clients' may have ended
	c := s.client("audit", 0, 0)
	defer c.close()
	list, batches, err := acceptedIn(s.Dir)
	if err != nil {
		return err
	}
	for _, id := range list {
		if err := c.auditJob(id); err != nil {
			return fmt.Errorf("job %s: %w", id, err)
		}
	}
	for _, id := range batches {
		if err := c.auditBatch(id); err != nil {
			return fmt.Errorf("batch %s: %w", id, err)
		}
	}
	return nil
}

// auditBatch writes down which jobs the list of a batch has.
func (c *client) auditBatch(id string) error {
	for cursor := ""; ; {
		a, err := c.persist("/v1/jobs?batch=" + id + "&cursor=" + cursor)
		if err != nil {
			return err
		}
		var page struct {
			Jobs   []struct{ ID string }
			Cursor string
		}
		if err := a.into(&page); err != nil || a.status != http.StatusOK {
			c.diary.note(entry{What: surprise, Batch: id, Status: a.status, Detail: "a batch cannot be listed: " + string(a.body)})
			return nil
		}
		for _, j := range page.Jobs {
			c.diary.note(entry{What: lists, Batch: id, Job: j.ID})
		}
		if cursor = page.Cursor; cursor == "" {
			c.diary.note(entry{What: listed, Batch: id})
			return nil
		}
	}
}

// auditJob writes down the state of a job and all of its events.
func (c *client) auditJob(id string) error {
	a, err := c.persist("/v1/jobs/" + id)
	switch {
	case err != nil:
		return err
	case a.status == http.StatusNotFound:
		c.diary.note(entry{What: gone, Job: id, Status: a.status})
		return nil
	case a.status != http.StatusOK:
		c.diary.note(entry{What: has, Job: id, Status: a.status, State: "not to be read", Detail: string(a.body)})
		return nil
	}
	var j struct{ Status, Kind, Batch string }
	if err := a.into(&j); err != nil {
		return err
	}
	c.diary.note(entry{What: has, Job: id, Status: a.status, State: j.Status, Kind: j.Kind, Batch: j.Batch})
	return c.auditEvents(id)
}

func (c *client) auditEvents(id string) error {
	for after := ""; ; {
		a, err := c.persist(fmt.Sprintf("/v1/jobs/%s/events?format=json&limit=%d&after=%s", id, pageSize, url.QueryEscape(after)))
		if err != nil {
			return err
		}
		var page struct {
			Events []json.RawMessage
			Cursor string
		}
		if err := a.into(&page); err != nil || a.status != http.StatusOK {
			c.diary.note(entry{What: surprise, Job: id, Status: a.status, Detail: "the events cannot be read: " + string(a.body)})
			return nil
		}
		for _, e := range page.Events {
			c.diary.note(entry{What: got, Job: id, Event: e})
		}
		if after = page.Cursor; len(page.Events) == 0 {
			return nil
		}
	}
}

// persist asks until there is an answer that is no refusal, for a while.
func (c *client) persist(path string) (a *answer, err error) {
	for end := time.Now().Add(auditTime); ; {
		a, err = c.ask(http.MethodGet, path, nil)
		if err == nil && !mayRefuse(a.status) || time.Now().After(end) || !c.again() {
			return a, err
		}
	}
}

// acceptedIn returns the jobs and the batches that the submitters were told of.
func acceptedIn(dir string) (jobs, batches []string, err error) {
	seen := map[string]bool{"": true}
	add := func(list *[]string, id string) {
		if !seen[id] {
			seen[id] = true
			*list = append(*list, id)
		}
	}
	err = eachEntry(dir, "submitter-*", func(_ string, e *entry) {
		if e.What == accepted {
			add(&jobs, e.Job)
			add(&batches, e.Batch)
		}
	})
	return jobs, batches, err
}

// maxLine is the longest line of a diary: an event of the largest size, and more.
const maxLine = 4 << 20

// eachEntry calls do with each entry of the diaries whose names match, in order in each.
func eachEntry(dir, pattern string, do func(diary string, e *entry)) error {
	names, err := filepath.Glob(filepath.Join(dir, pattern+".jsonl"))
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := eachLine(name, do); err != nil {
			return err
		}
	}
	return nil
}

func eachLine(name string, do func(string, *entry)) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	diary := strings.TrimSuffix(filepath.Base(name), ".jsonl")
	in := bufio.NewScanner(f)
	in.Buffer(nil, maxLine)
	for in.Scan() {
		var e entry
		if err := json.Unmarshal(in.Bytes(), &e); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		do(diary, &e)
	}
	return in.Err()
}
