package e2e

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/plexusmesh/plexus/internal/lab"
)

const (
	watchBuffer = 64 << 20               // bytes of frames that wait to be looked at
	largest     = 1 << 17                // of a frame: offloads make them of up to 64 KiB
	watchDrain  = 100 * time.Millisecond // for frames that wait
)

// sighting is what of a watched flow could be read on a device. The zero Addr
// stands for what is no IP packet.
type sighting struct {
	Device      string
	Src, Dst    netip.Addr
	Marked      bool // the payload itself, not only an address of the mesh
	Frames      int
	First, Last time.Time
	Example     []byte // the first 96 bytes
}

func (s sighting) String() string {
	what := "an address of the mesh"
	if s.Marked {
		what = "the payload"
	}
	return fmt.Sprintf("%s on %s, from %s to %s, %d times from %s to %s: % x",
		what, s.Device, s.Src, s.Dst, s.Frames, s.First.Format(clock), s.Last.Format(clock), s.Example)
}

// watched is a watcher's report.
type watched struct {
	Frames int // seen in all
	Lost   int // not seen, for want of room
	Seen   []sighting
}

// watchAll watches both ends of every cable of the lab, for the payload of the
// tests and for addresses in pools, until the returned function is called.
func watchAll(t *testing.T, l *lab.Lab, pools ...netip.Prefix) (stop func() watched) {
	t.Helper()
	args := make([]string, len(pools))
	for i, p := range pools {
		args[i] = p.String()
	}
	var watchers []*program
	var ports []string
	for _, h := range l.Hosts {
		watchers = append(watchers, launch(t, h, "watch", append([]string{lab.Device}, args...)...))
		ports = append(ports, h.Name)
	}
	watchers = append(watchers, launch(t, l.Fabric, "watch", append([]string{strings.Join(ports, ",")}, args...)...))
	return func() watched {
		t.Helper()
		var all watched
		for i, w := range watchers {
			var one watched
			w.stdin.Close()
			if err := json.NewDecoder(w.out).Decode(&one); err != nil {
				t.Fatalf("watcher %d: %v", i, err)
			}
			if i < len(l.Hosts) {
				one.at(l.Hosts[i].Name)
			}
			all.Frames, all.Lost, all.Seen = all.Frames+one.Frames, all.Lost+one.Lost, append(all.Seen, one.Seen...)
		}
		return all
	}
}

// at says whose devices these were; those of the fabric bear their host's name.
func (w watched) at(host string) {
	for i := range w.Seen {
		w.Seen[i].Device += " of " + host
	}
}

// watcher looks for what must not be readable.
type watcher struct {
	pools []netip.Prefix

	mu   sync.Mutex
	out  watched
	seen map[sightingKey]int // where in out.Seen
}

type sightingKey struct {
	device   string
	src, dst netip.Addr
	marked   bool
}

// watch is the role of a watcher: its first argument names devices, the others
// pools of addresses.
func watch(args []string, done <-chan struct{}) error {
	w := &watcher{seen: map[sightingKey]int{}}
	for _, arg := range args[1:] {
		p, err := netip.ParsePrefix(arg)
		if err != nil {
			return err
		}
		w.pools = append(w.pools, p)
	}
	var socks []*os.File
	var readers sync.WaitGroup
	errs := make(chan error, 64)
	for _, device := range strings.Split(args[0], ",") {
		sock, err := packetSocket(device)
		if err != nil {
			return err
		}
		socks = append(socks, sock)
		readers.Go(func() { errs <- w.read(device, sock) })
	}
	fmt.Println("ready")
	<-done
	for _, sock := range socks {
		if err := sock.SetReadDeadline(time.Now().Add(watchDrain)); err != nil {
			return err
		}
	}
	readers.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return err
		}
	}
	return json.NewEncoder(os.Stdout).Encode(w.out)
}

// packetSocket opens a socket for every frame that a device sends and receives.
// It is bound last, so that no frame comes before there is room for it.
func packetSocket(device string) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open packet socket: %w", err)
	}
	link, err := net.InterfaceByName(device)
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, watchBuffer)
	}
	if err == nil {
		all := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, unix.ETH_P_ALL))
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: link.Index})
	}
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", device, err)
	}
	return os.NewFile(uintptr(fd), device), nil
}

func (w *watcher) read(device string, sock *os.File) error {
	defer sock.Close()
	buf := make([]byte, largest)
	for {
		n, err := sock.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return w.count(sock)
		}
		if err != nil {
			return err
		}
		w.look(device, buf[:n])
	}
}

// count adds what the kernel had no room for.
func (w *watcher) count(sock *os.File) error {
	raw, err := sock.SyscallConn()
	if err != nil {
		return err
	}
	var stats *unix.TpacketStats
	ctlErr := raw.Control(func(fd uintptr) {
		stats, err = unix.GetsockoptTpacketStats(int(fd), unix.SOL_PACKET, unix.PACKET_STATISTICS)
	})
	if err := errors.Join(ctlErr, err); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.out.Lost += int(stats.Drops)
	return nil
}

func (w *watcher) look(device string, frame []byte) {
	src, dst, _ := ipOf(frame)
	k := sightingKey{device, src, dst, bytes.Contains(frame, []byte(mark))}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.out.Frames++
	if !k.marked && !w.pooled(src) && !w.pooled(dst) {
		return
	}
	now := time.Now()
	i, known := w.seen[k]
	if !known {
		i = len(w.out.Seen)
		w.seen[k] = i
		w.out.Seen = append(w.out.Seen, sighting{
			Device: device, Src: src, Dst: dst, Marked: k.marked, First: now, Example: slices.Clone(frame[:min(96, len(frame))]),
		})
	}
	w.out.Seen[i].Frames++
	w.out.Seen[i].Last = now
}

func (w *watcher) pooled(a netip.Addr) bool {
	return slices.ContainsFunc(w.pools, func(p netip.Prefix) bool { return p.Contains(a) })
}
