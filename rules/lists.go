// SPDX-License-Identifier: Apache-2.0

package rules

// lists has many short lists in few pieces of memory. It is not for concurrent use.
type lists[T any] struct{ free []T }

// listsPiece is how many elements a piece has: some KiB.
const listsPiece = 256

// room returns an empty list with room for n.
func (l *lists[T]) room(n int) []T {
	if n > len(l.free) {
		l.free = make([]T, max(listsPiece, n))
	}
	list := l.free[:0:n]
	l.free = l.free[n:]
	return list
}

// mark returns what release takes to have the room back of all lists that are made in between.
func (l *lists[T]) mark() []T {
	if len(l.free) < listsPiece/2 { // else each use of it would need a new piece beside the little that is left
		l.free = make([]T, listsPiece)
	}
	return l.free
}

// release takes the room of all lists that were made since mark, which nobody may use any more.
func (l *lists[T]) release(mark []T) { l.free = mark }

// copy returns a copy of a list.
func (l *lists[T]) copy(list ...T) []T { return append(l.room(len(list)), list...) }
