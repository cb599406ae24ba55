package index

import (
	"iter"
	"slices"
	"sort"
)

// blockSize is how many handles a block has at most: 2 KiB, which are moved in no time.
const blockSize = 512

// order has the handles of all records in the order of their places, in blocks. Jobs
// come almost in order and go almost in order: blocks fill up at one end and empty at
// the other.
type order struct {
	records *records
	blocks  [][]uint32 // none is empty
}

// find returns where the first record is that is not before p: i may be the end of
// the last block.
func (o *order) find(p place) (b, i int) {
	b = sort.Search(len(o.blocks), func(b int) bool {
		block := o.blocks[b]
		return compare(o.records.at(block[len(block)-1]).place(), p) >= 0
	})
	if b == len(o.blocks) {
		return b, 0
	}
	block := o.blocks[b]
	return b, sort.Search(len(block), func(i int) bool { return compare(o.records.at(block[i]).place(), p) >= 0 })
}

// insert adds a handle.
func (o *order) insert(h uint32) {
	b, i := o.find(o.records.at(h).place())
	if last := len(o.blocks) - 1; b > last && last >= 0 && len(o.blocks[last]) < blockSize {
		b, i = last, len(o.blocks[last])
	}
	if b == len(o.blocks) {
		o.blocks = append(o.blocks, append(make([]uint32, 0, blockSize), h))
		return
	}
	if len(o.blocks[b]) == blockSize {
		o.split(b)
		if i > blockSize/2 {
			b, i = b+1, i-blockSize/2
		}
	}
	o.blocks[b] = slices.Insert(o.blocks[b], i, h)
}

// split makes two blocks of one.
func (o *order) split(b int) {
	half := append(make([]uint32, 0, blockSize), o.blocks[b][blockSize/2:]...)
	o.blocks[b] = o.blocks[b][:blockSize/2]
	o.blocks = slices.Insert(o.blocks, b+1, half)
}

// remove takes out the handle of the record with this place.
func (o *order) remove(p place) {
	b, i := o.find(p)
	o.blocks[b] = slices.Delete(o.blocks[b], i, i+1)
	o.join(b)
}

// join makes one block of b and the one before it, if both have become small: a few
// jobs that are kept for long leave no trail of almost empty ones.
func (o *order) join(b int) {
	switch {
	case len(o.blocks[b]) == 0:
		o.blocks = slices.Delete(o.blocks, b, b+1)
	case b > 0 && len(o.blocks[b-1])+len(o.blocks[b]) <= blockSize/2:
		o.blocks[b-1] = append(o.blocks[b-1], o.blocks[b]...)
		o.blocks = slices.Delete(o.blocks, b, b+1)
	}
}

// below returns the handles of the records before p, from the last one on.
func (o *order) below(p place) iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		b, i := o.find(p)
		for {
			if i == 0 {
				if b--; b < 0 {
					return
				}
				i = len(o.blocks[b])
			}
			if i--; !yield(o.blocks[b][i]) {
				return
			}
		}
	}
}
