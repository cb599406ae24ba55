package queue

// items is a heap of items that knows where each of them is.
type items struct {
	list []*item
	less func(a, b *item) bool
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

// Len, Less, Swap, Push and Pop make it a heap.Interface.
func (h *items) Len() int           { return len(h.list) }
func (h *items) Less(i, k int) bool { return h.less(h.list[i], h.list[k]) }

func (h *items) Swap(i, k int) {
	h.list[i], h.list[k] = h.list[k], h.list[i]
	h.list[i].index, h.list[k].index = i, k
}

func (h *items) Push(x any) {
	it := x.(*item)
	it.heap, it.index = h, len(h.list)
	h.list = append(h.list, it)
}

func (h *items) Pop() any {
	last := len(h.list) - 1
	it := h.list[last]
	h.list[last] = nil
	h.list = h.list[:last]
	it.heap = nil
	return it
}
