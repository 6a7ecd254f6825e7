package registry

import (
	"errors"
	"time"

	"github.com/plexusmesh/plexus/control"
	"github.com/plexusmesh/plexus/kvstore"
	"github.com/plexusmesh/plexus/kvstore/schema"
	"github.com/plexusmesh/plexus/mesh"
)

// ops are the effects of one transaction.
type ops = []kvstore.Op

// writer collects ops; its error is the first of them.
type writer struct {
	ops ops
	err error
}

func (w *writer) add(op kvstore.Op, err error) {
	if w.err == nil {
		w.err = err
	}
	w.ops = append(w.ops, op)
}

func (w *writer) put(key string, value []byte, err error) {
	w.add(kvstore.OpPut(key, value, 0), err)
}

func (w *writer) remove(key string) { w.ops = append(w.ops, kvstore.OpDelete(key)) }

func (w *writer) host(h schema.Host) {
	value, err := schema.EncodeHost(h)
	w.put(schema.HostKey(h.Node), value, err)
}

func (w *writer) claim(c mesh.Claim) {
	value, err := schema.EncodeClaim(c)
	w.put(schema.ClaimKey(c.Node), value, err)
}

func (w *writer) identity(s *snapshot, h schema.Host) {
	labels := s.labels(h)
	if s.ids[h.Identity] != labels.String() {
		w.put(s.layout.Identity(h.Identity), schema.EncodeIdentity(labels), nil)
	}
}

// facts writes what of a host's node record and ip entries differs from n.
func (w *writer) facts(s *snapshot, h schema.Host, n mesh.Node) {
	if old, stands := s.facts[h.Node]; !stands || !old.Equal(n) {
		value, err := schema.EncodeNode(n)
		w.put(s.layout.Node(n.Name), value, err)
	}
	for _, e := range control.Endpoints(n, h.Identity, h.Namespace) {
		if old, stands := s.ips[e.Prefix]; !stands || !old.Equal(e) {
			value, err := schema.EncodeEndpoint(e)
			w.put(s.layout.Endpoint(e.Prefix), value, err)
		}
	}
}

// refusals tells a host what of its claim is not believed; none of it takes
// back what it was told before.
func (w *writer) refusals(node string, refused []control.Refusal) {
	if len(refused) == 0 {
		w.remove(schema.RefusalKey(node))
		return
	}
	out := schema.Refusals{Node: node, Time: time.Now().UTC().Truncate(time.Second)}
	for _, r := range refused {
		out.Refused = append(out.Refused, schema.Refusal(r))
	}
	value, err := schema.EncodeRefusals(out)
	w.put(schema.RefusalKey(node), value, err)
}

func refusalsOf(r schema.Refusals) []control.Refusal {
	out := make([]control.Refusal, 0, len(r.Refused))
	for _, one := range r.Refused {
		out = append(out, control.Refusal(one))
	}
	return out
}

// isAnswer reports whether err is meant for whoever asked.
func isAnswer(err error) bool {
	var answer *control.Error
	return errors.As(err, &answer) && answer.Code != control.CodeUnavailable
}
