package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

const sprayEvery = 20 * time.Millisecond

// spray is the role of one who sends numbered, marked messages to every target
// for as long as it lives, whatever becomes of them: by TCP in one connection
// while that holds, and then in the next, unless the first argument is "once". It
// reports how many it sent to each.
func spray(args []string, done <-chan struct{}) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var mu sync.Mutex
	var all sync.WaitGroup
	sent := map[string]int{}
	for _, to := range args[1:] {
		all.Go(func() {
			for again := true; again && ctx.Err() == nil; again = args[0] != "once" {
				n := sprayOn(ctx, to)
				mu.Lock()
				sent[to] += n
				mu.Unlock()
			}
		})
	}
	fmt.Println("ready")
	<-done
	cancel()
	all.Wait()
	return json.NewEncoder(os.Stdout).Encode(sent)
}

// sprayOn sends until that fails, and returns how many messages went.
func sprayOn(ctx context.Context, to string) (sent int) {
	tick := time.NewTicker(sprayEvery)
	defer tick.Stop()
	network, address, _ := strings.Cut(to, "/")
	c, err := (&net.Dialer{Timeout: patience}).DialContext(ctx, network, address)
	if err == nil {
		defer c.Close()
		defer context.AfterFunc(ctx, func() { c.Close() })() // also while a write waits
	}
	for {
		select {
		case <-ctx.Done():
			return sent
		case <-tick.C:
		}
		if err == nil {
			_, err = c.Write(message(sent))
		}
		if err != nil {
			return sent
		}
		sent++
	}
}
