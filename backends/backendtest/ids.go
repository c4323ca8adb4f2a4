package backendtest

import (
	"fmt"
	"slices"

	"github.com/headrace/headrace/hub"
)

func ids(ms []hub.Message) []hub.ID {
	got := make([]hub.ID, len(ms))
	for i, m := range ms {
		got[i] = m.ID
	}
	return got
}

func find(ms []hub.Message, id hub.ID) (m hub.Message, ok bool) {
	i := slices.IndexFunc(ms, func(m hub.Message) bool { return m.ID == id })
	if i < 0 {
		return m, false
	}
	return ms[i], true
}

// list shows IDs, the first ones when there are many.
func list(ids []hub.ID) string {
	const most = 12
	if len(ids) <= most {
		return fmt.Sprintf("%q", ids)
	}
	return fmt.Sprintf("%q and %d more", ids[:most], len(ids)-most)
}

// sameSet reports whether two lists have the same IDs, each once.
func sameSet(a, b []hub.ID) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(a, b) && len(slices.Compact(a)) == len(b)
}
