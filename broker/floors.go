package broker

import (
	"cmp"

	"github.com/tidwall/btree"
)

// floors has the jobs of the log by where what they have in it begins: the first of them
// holds all that is behind it. There may be millions, and it is asked each second.
type floors struct {
	tree *btree.BTreeG[*entry]
	size int64 // of what all of them have in the log
}

func newFloors() floors {
	return floors{tree: btree.NewBTreeGOptions(lower, btree.Options{NoLocks: true})}
}

func lower(a, b *entry) bool {
	return cmp.Or(cmp.Compare(a.floor, b.floor), cmp.Compare(a.job.ID, b.job.ID)) < 0
}

// add takes e in: what it has in the log begins at position floor, behind so many bytes.
func (f *floors) add(e *entry, floor uint64, behind int64) {
	e.placed = true
	f.move(e, floor, behind)
	f.size += e.size
}

// move says that it begins somewhere else.
func (f *floors) move(e *entry, floor uint64, behind int64) {
	if e.placed {
		f.tree.Delete(e)
		defer f.tree.Set(e)
	}
	e.floor, e.behind = floor, behind
}

// resize says that what e has in the log is n bytes.
func (f *floors) resize(e *entry, n int64) {
	if e.placed {
		f.size += n - e.size
	}
	e.size = n
}

// remove is the end of add.
func (f *floors) remove(e *entry) {
	f.tree.Delete(e)
	f.size -= e.size
	e.placed = false
}

// first returns the job that holds the log, nil if there is none.
func (f *floors) first() *entry {
	e, _ := f.tree.Min()
	return e
}
