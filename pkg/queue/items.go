package queue

import (
	"sort"

	"github.com/tidwall/btree"
)

// items are those that wait, in order. Their tree counts, so that the place of one
// among ten thousand, which every answer to a submit tells, is found without a look
// at the others.
type items struct {
	tree *btree.BTreeG[*item]
	less func(a, b *item) bool
}

// newItems returns no items, to be kept in the order of less. What it compares must
// not change while an item is in.
func newItems(less func(a, b *item) bool) items {
	return items{btree.NewBTreeGOptions(less, btree.Options{NoLocks: true}), less}
}

// byPriority puts high before low, and within one priority what came first.
func byPriority(a, b *item) bool {
	if a.priority != b.priority {
		return a.priority > b.priority
	}
	return a.order < b.order
}

// byTime puts first what may run first.
func byTime(a, b *item) bool {
	if !a.runAt.Equal(b.runAt) {
		return a.runAt.Before(b.runAt)
	}
	return byPriority(a, b)
}

func (s *items) len() int { return s.tree.Len() }

// first returns the first item, nil if there is none.
func (s *items) first() *item {
	it, _ := s.tree.Min()
	return it
}

func (s *items) add(it *item) {
	s.tree.Set(it)
	it.in = s
}

func (s *items) remove(it *item) {
	s.tree.Delete(it)
	it.in = nil
}

// before returns how many items come before it.
func (s *items) before(it *item) int {
	if last, _ := s.tree.Max(); last == it { // most who ask have just come
		return s.tree.Len() - 1
	}
	return sort.Search(s.tree.Len(), func(i int) bool {
		other, _ := s.tree.GetAt(i)
		return !s.less(other, it)
	})
}
