package table

import (
	"reflect"
	"time"
)

// Changed returns the names of the columns that an update writes and that differ from those of an earlier state of the row.
func (c Columns) Changed(before Columns) (names []string) {
	for i, column := range c {
		if column.kind == plain && !equal(column.field, before[i].field) {
			names = append(names, column.name)
		}
	}
	return names
}

// equal compares what two fields point at. Times are equal in any time zone.
func equal(a, b any) bool {
	switch x := a.(type) {
	case *time.Time:
		return x.Equal(*b.(*time.Time))
	case **time.Time:
		y := *b.(**time.Time)
		return *x == y || *x != nil && y != nil && (*x).Equal(*y)
	default:
		return reflect.DeepEqual(a, b)
	}
}
