package main

import (
	"errors"
	"strconv"
	"time"
)

// flagValue is the value of a flag that is left alone unless it is given.
type flagValue[T any] struct {
	to    *T
	parse func(string) (T, error)
}

func flagOf[T any](to *T, parse func(string) (T, error)) flagValue[T] { return flagValue[T]{to, parse} }

func (f flagValue[T]) Set(s string) (err error) {
	*f.to, err = f.parse(s)
	return err
}

func (flagValue[T]) String() string { return "" }

// Type is what --help calls it.
func (f flagValue[T]) Type() string {
	if _, ok := any(f.to).(*time.Duration); ok {
		return "duration"
	}
	return "n"
}

func someTime(s string) (time.Duration, error) {
	d, err := parseDuration(s)
	if err == nil && d <= 0 {
		err = errors.New("must be longer than nothing")
	}
	return time.Duration(d), err
}

func atLeastOnce(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		return 0, errors.New("must be a whole number from 1 on")
	}
	return n, nil
}

// notEmpty refuses nothing at all: a variable of a script that was not set, say.
func notEmpty(s string) (string, error) {
	if s == "" {
		return "", errors.New("must not be empty")
	}
	return s, nil
}
