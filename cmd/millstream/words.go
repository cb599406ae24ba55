package main

import (
	"errors"
	"fmt"
	"strings"
)

// shellOnly are the characters that mean something to a shell wherever they
// stand outside quotes, and of which a user would expect that meaning.
const shellOnly = "|&;<>()$`"

// splitWords splits a command line into its words as a POSIX shell does, as far
// as quotes and backslashes go. Nothing is expanded: what only a shell could do
// is an error and not taken literally.
func splitWords(line string) ([]string, error) {
	s := splitter{rest: line}
	for s.rest != "" {
		if err := s.step(); err != nil {
			return nil, err
		}
	}
	s.end()
	return s.words, nil
}

type splitter struct {
	rest  string
	words []string
	word  strings.Builder
	open  bool // a word has begun; it may still be empty, as '' is one
}

func (s *splitter) next() byte {
	c := s.rest[0]
	s.rest = s.rest[1:]
	return c
}

func (s *splitter) put(c byte) {
	s.word.WriteByte(c)
	s.open = true
}

func (s *splitter) end() {
	if s.open {
		s.words = append(s.words, s.word.String())
		s.word.Reset()
		s.open = false
	}
}

// step takes what begins at the front: a space, a quoted part or one character.
func (s *splitter) step() error {
	switch c := s.next(); {
	case c == ' ' || c == '\t' || c == '\n':
		s.end()
	case c == '\'':
		return s.literal()
	case c == '"':
		return s.quoted()
	case c == '\\':
		return s.escaped()
	case strings.IndexByte(shellOnly, c) >= 0:
		return needsShell(c)
	default:
		s.put(c)
	}
	return nil
}

func needsShell(c byte) error {
	return fmt.Errorf("%q is for a shell, and none runs here: quote it, or name a shell: sh -c '…'", c)
}

func (s *splitter) escaped() error {
	if s.rest == "" {
		return errors.New("a backslash ends it")
	}
	if c := s.next(); c != '\n' { // a line that goes on
		s.put(c)
	}
	return nil
}

// literal takes what single quotes enclose: every character is itself.
func (s *splitter) literal() error {
	text, rest, closed := strings.Cut(s.rest, "'")
	if !closed {
		return errors.New("a single quote is not closed")
	}
	s.word.WriteString(text)
	s.rest, s.open = rest, true
	return nil
}

// quoted takes what double quotes enclose: a backslash keeps its meaning before
// a character that is special there.
func (s *splitter) quoted() error {
	s.open = true
	for s.rest != "" {
		switch c := s.next(); {
		case c == '"':
			return nil
		case c == '$' || c == '`':
			return needsShell(c)
		case c == '\\' && s.rest != "" && strings.IndexByte("\"\\$`\n", s.rest[0]) >= 0:
			if err := s.escaped(); err != nil {
				return err
			}
		default:
			s.put(c)
		}
	}
	return errors.New("a double quote is not closed")
}
