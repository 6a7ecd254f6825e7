package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"
)

const swaps = 40

// swapped is one of two pairs of policies. Each pair lets web in, and no mixture
// of the two does: what one policy allows in one pair, the other does in the
// other.
func swapped(i int) string {
	ports := [2]string{"5432", "5999"}
	doc := func(name, port string) string {
		return clusterwide(name, "db", fmt.Sprintf(`  ingress:
  - fromEndpoints: [{matchLabels: {app: web}}]
    toPorts: [{ports: [{port: "%s"}]}]`, port))
	}
	return doc("one", ports[i%2]) + "---\n" + doc("two", ports[(i+1)%2])
}

// TestAtomicApply opens new flows all the time while policies change places. A
// host that saw half of a change for a moment would drop one of them.
func TestAtomicApply(t *testing.T) {
	m := newTrio(t)
	serve(t, m.db.Host, "5432")
	m.apply(t, swapped(0))
	expect(t, m.web.Host, echoed, target("udp", m.db.mesh4, 5432)) // the handshake is made
	p := launch(t, m.web.Host, "knock", m.db.mesh4.String()+":5432")
	for i := range swaps {
		m.apply(t, swapped(i+1))
	}
	rep := p.finish(t)
	t.Logf("%d new flows during %d changes", rep.Sent, swaps)
	if rep.Sent < 10*swaps || len(rep.Missing) > 0 {
		t.Errorf("of %d new flows, %v were dropped (%s); want none", rep.Sent, rep.Missing, rep.Err)
	}
}

const (
	knockEvery = 2 * time.Millisecond
	knockWait  = 2 * time.Second // for an answer
)

// knock is the role of one who opens flow after flow, each with one datagram
// from a port of its own, and reports those that nobody answered.
func knock(address string, done <-chan struct{}) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	var (
		mu  sync.Mutex
		all sync.WaitGroup
		rep report
	)
	tick := time.NewTicker(knockEvery)
	defer tick.Stop()
	for open := true; open; rep.Sent++ {
		number := rep.Sent
		all.Go(func() {
			if err := knockOnce(to); err != nil {
				mu.Lock()
				defer mu.Unlock()
				rep.Missing, rep.Err = append(rep.Missing, number), err.Error()
			}
		})
		select {
		case <-done:
			open = false
		case <-tick.C:
		}
	}
	all.Wait()
	return json.NewEncoder(os.Stdout).Encode(rep)
}

func knockOnce(to netip.AddrPort) error {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write(message(1)); err != nil {
		return err
	}
	_ = c.SetReadDeadline(time.Now().Add(knockWait))
	_, err = c.Read(make([]byte, messageLen))
	return err
}
