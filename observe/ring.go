package observe

// ring keeps the newest flows, numbered from 0 in the order they came. It grows
// to its capacity as flows come, and is not safe for concurrent use.
type ring struct {
	capacity int
	flows    []Flow
	next     uint64 // number of the flow that comes next
}

func (r *ring) add(f Flow) {
	if len(r.flows) < r.capacity {
		r.flows = append(r.flows, f)
	} else {
		r.flows[r.next%uint64(r.capacity)] = f
	}
	r.next++
}

// oldest returns the number of the oldest flow that is still kept.
func (r *ring) oldest() uint64 { return r.next - uint64(len(r.flows)) }

// at returns flow n, which must be kept.
func (r *ring) at(n uint64) *Flow { return &r.flows[n%uint64(r.capacity)] }
