package index

import (
	"encoding/binary"
	"slices"
	"strings"
)

// pool keeps each text once, for as long as a job has it: tags and batches are the
// callers' and without number. Handle 0 is the empty text.
type pool struct {
	handles map[string]uint32
	texts   []counted
	free    []uint32
}

// counted is a text, and how many have it.
type counted struct {
	text string
	n    uint32
}

func newPool() pool { return pool{handles: map[string]uint32{"": 0}, texts: []counted{{n: 1}}} }

// find returns the handle of a text; ok is false if nobody has it.
func (p *pool) find(text string) (h uint32, ok bool) {
	h, ok = p.handles[text]
	return h, ok
}

// take returns the handle of a text for one more that has it; fresh: it is the first.
func (p *pool) take(text []byte) (h uint32, fresh bool) {
	h, ok := p.handles[string(text)]
	switch {
	case h == 0 && ok:
		return 0, false
	case ok:
		p.texts[h].n++
		return h, false
	}
	own := strings.Clone(string(text)) // and not what it was cut out of
	if n := len(p.free); n > 0 {
		h, p.free = p.free[n-1], p.free[:n-1]
		p.texts[h] = counted{own, 1}
	} else {
		h = uint32(len(p.texts))
		p.texts = append(p.texts, counted{own, 1})
	}
	p.handles[own] = h
	return h, true
}

// give takes the text from one that had it; last: nobody has it any more, and text is
// what it was.
func (p *pool) give(h uint32) (text string, last bool) {
	if h == 0 {
		return "", false
	}
	c := &p.texts[h]
	if c.n--; c.n > 0 {
		return "", false
	}
	text = c.text
	delete(p.handles, text)
	*c = counted{}
	p.free = append(p.free, h)
	return text, true
}

// sets keeps the sets of tags that jobs have, each once: as the text that the handles
// of its tags are in a row.
type sets struct {
	tags pool
	sets pool
}

// take returns the handle of the set of these tags, for one more job.
func (s *sets) take(tags []string) uint32 {
	if len(tags) == 0 {
		return 0
	}
	handles := make([]uint32, 0, 16) // as many as a job may have
	for _, tag := range tags {
		h, _ := s.tags.take([]byte(tag))
		handles = append(handles, h)
	}
	set, fresh := s.sets.take(pack(handles))
	if !fresh { // one of each tag is for the set
		for _, h := range handles {
			s.tags.give(h)
		}
	}
	return set
}

// give takes the set from a job that had it.
func (s *sets) give(set uint32) {
	text, last := s.sets.give(set)
	if !last {
		return
	}
	for i := 0; i < len(text); i += 4 {
		s.tags.give(binary.BigEndian.Uint32([]byte(text[i : i+4])))
	}
}

// has reports whether the set has all of the tags.
func (s *sets) has(set uint32, tags []uint32) bool {
	text := s.sets.texts[set].text
	for _, tag := range tags {
		if !contains(text, tag) {
			return false
		}
	}
	return true
}

func contains(text string, tag uint32) bool {
	for ; text != ""; text = text[4:] {
		if uint32(text[0])<<24|uint32(text[1])<<16|uint32(text[2])<<8|uint32(text[3]) == tag {
			return true
		}
	}
	return false
}

// pack returns the text of a set; a tag that is there twice stays twice, as it was
// taken.
func pack(handles []uint32) []byte {
	slices.Sort(handles)
	b := make([]byte, 0, 64)
	for _, h := range handles {
		b = binary.BigEndian.AppendUint32(b, h)
	}
	return b
}
