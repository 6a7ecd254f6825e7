package server

import (
	"net/netip"
	"sync"
	"time"
)

// Failures that one source may cause in a window, and sources that are
// remembered.
const (
	maxFailures = 20
	window      = time.Minute
	maxSources  = 4096
)

// limiter counts failures by source: an IPv4 address, or an IPv6 /64.
type limiter struct {
	mu      sync.Mutex
	sources map[netip.Prefix]failures
}

type failures struct {
	count int
	since time.Time
}

func newLimiter() *limiter { return &limiter{sources: make(map[netip.Prefix]failures)} }

// allow reports whether source may try.
func (l *limiter) allow(source netip.Addr, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.sources[group(source)]
	return f.count < maxFailures || now.Sub(f.since) >= window
}

// failed counts a failure of source.
func (l *limiter) failed(source netip.Addr, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := group(source)
	f, known := l.sources[p]
	if !known && len(l.sources) >= maxSources {
		clear(l.sources) // an attack from very many sources: no memory is better than too much
	}
	if now.Sub(f.since) >= window {
		f = failures{since: now}
	}
	f.count++
	l.sources[p] = f
}

func group(a netip.Addr) netip.Prefix {
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits) // the zero Prefix for the zero Addr, which is one source
	return p
}
