package netns

import "hash/fnv"

// Unassigned are the addresses that are for pods and that no pod has. By itself the host
// would send what is for them on by its default route: to let others see it, and where the host
// is a router to have it back, until its time is up. Instead it refuses that at once, as a
// bridge would after having asked in vain who has them.
//
// For each range that pods have addresses of there is a route of type unreachable, of the
// worst metric. A pod's own route is narrower; and narrower, or as wide, is what somebody
// else of the host has in the range, a bridge or a tunnel: that is reached as if podbox was not
// there. What is wider, other than a default route, is hidden as far as the range goes.
type Unassigned struct {
	// Table is that of the Rules. Another installation has another, and its own routes.
	Table string
}

// metric is that of the installation's routes, by which they are told from those of others.
func (u Unassigned) metric() uint32 {
	h := fnv.New32a()
	h.Write([]byte(u.Table))
	return 0xffff<<16 | h.Sum32()&0xffff
}
