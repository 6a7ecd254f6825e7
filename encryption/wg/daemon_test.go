package wg_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/plexusmesh/plexus/encryption"
	"github.com/plexusmesh/plexus/encryption/wg"
	"github.com/plexusmesh/plexus/mesh"
)

// device is the name of the tunnel in every test host.
const device = "pxt0"

// order is what a test tells a daemon to bring about; a line of JSON each.
type order struct {
	Dir    string // of its state
	Key    string
	Port   uint16
	Peers  []peerOrder
	Remove bool // the device
}

type peerOrder struct {
	Key        string
	Endpoint   netip.AddrPort
	AllowedIPs []netip.Prefix
}

// answer is what it says then; a line of JSON too.
type answer struct {
	Kind  wg.Kind
	Peers []wg.PeerStatus
	Error string
}

// runDaemon obeys orders until its input ends. It then stops as a daemon does:
// it leaves everything as it is.
func runDaemon() error {
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	d, err := wg.New(wg.Options{Name: device})
	if err != nil {
		return err
	}
	for {
		var o order
		if err := in.Decode(&o); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		a, err := obey(d, o)
		if err != nil {
			a.Error = err.Error()
		}
		if err := out.Encode(a); err != nil {
			return err
		}
	}
}

func obey(d *wg.Device, o order) (a answer, err error) {
	ctx := context.Background()
	opts := deviceOptions(device, o.Dir)
	if o.Remove {
		return a, wg.RemoveDevice(ctx, device, opts.PIDFile)
	}
	if a.Kind, err = wg.EnsureDevice(ctx, opts); err != nil {
		return a, err
	}
	key, err := encryption.ParsePrivateKey(o.Key)
	if err != nil {
		return a, err
	}
	c := wg.Config{PrivateKey: key, Port: o.Port, Peers: make(map[mesh.Key]encryption.Peer)}
	for _, p := range o.Peers {
		k, err := mesh.ParseKey(p.Key)
		if err != nil {
			return a, err
		}
		c.Peers[k] = encryption.Peer{Key: k, Endpoint: p.Endpoint, AllowedIPs: p.AllowedIPs}
	}
	if err := errors.Join(d.Ensure(ctx, c), d.Prune(ctx, c.Peers, true)); err != nil {
		return a, err
	}
	a.Peers, err = d.ListPeers(ctx)
	return a, err
}

// host is a network namespace with a daemon in it.
type host struct {
	t      *testing.T
	ns     string
	dir    string
	self   string // the daemon's program
	key    encryption.PrivateKey
	daemon *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
}

// newHost makes a namespace. Its name holds our PID, so that no two runs meet.
func newHost(t *testing.T, name string) *host {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	h := &host{t: t, self: self, ns: fmt.Sprintf("pxwg-%d-%s", os.Getpid(), name), dir: t.TempDir(), key: encryption.NewPrivateKey()}
	must(t, "ip", "netns", "add", h.ns)
	t.Cleanup(func() {
		if pid := h.helper(); pid != 0 {
			if p, err := os.FindProcess(pid); err == nil {
				_ = p.Kill() // it may have ended by itself
			}
		}
		h.kill()
		must(t, "ip", "netns", "del", h.ns)
	})
	h.ip("link", "set", "lo", "up")
	return h
}

func must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (h *host) ip(args ...string) {
	h.t.Helper()
	must(h.t, append([]string{"ip", "-n", h.ns}, args...)...)
}

// inheritable opens a file that the daemon gets passed, and could pass on, as a
// socket from systemd.
func (h *host) inheritable() *os.File {
	h.t.Helper()
	f, err := os.Create(h.dir + "/inheritable")
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { f.Close() })
	return f
}

// start runs a daemon in the namespaces of a fresh host: what a service manager would set up. A
// second daemon enters those of the helper, where its socket is.
func (h *host) start() {
	h.t.Helper()
	args := []string{"ip", "netns", "exec", h.ns, "unshare", "--mount", "sh", "-c",
		`mkdir -p /run/wireguard && mount -t tmpfs tmpfs /run/wireguard && exec "$0" "$1"`, h.self, asDaemon}
	if pid := h.helper(); pid != 0 {
		args = []string{"nsenter", "--target", strconv.Itoa(pid), "--mount", "--net", h.self, asDaemon}
	}
	h.daemon = exec.Command(args[0], args[1:]...)
	h.daemon.Stderr = os.Stderr
	h.daemon.ExtraFiles = []*os.File{h.inheritable()}
	var err error
	if h.in, err = h.daemon.StdinPipe(); err != nil {
		h.t.Fatal(err)
	}
	out, err := h.daemon.StdoutPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	h.out = bufio.NewReader(out)
	if err := h.daemon.Start(); err != nil {
		h.t.Fatal(err)
	}
}

// kill ends the daemon as SIGKILL does.
func (h *host) kill() {
	if h.daemon == nil {
		return
	}
	_ = h.daemon.Process.Kill() // it may have ended by itself
	_ = h.daemon.Wait()         // says that it was killed
	h.daemon = nil
}

// tell gives the daemon an order and returns its answer.
func (h *host) tell(o order) answer {
	h.t.Helper()
	o.Dir, o.Key, o.Port = h.dir, h.key.Encode(), mesh.WireGuardPort
	if err := json.NewEncoder(h.in).Encode(o); err != nil {
		h.t.Fatal(err)
	}
	line, err := h.out.ReadBytes('\n')
	var a answer
	if err = errors.Join(err, json.Unmarshal(line, &a)); err != nil || a.Error != "" {
		h.t.Fatalf("daemon of %s: %v %s", h.ns, err, a.Error)
	}
	return a
}

// helper returns the PID of the host's helper, or 0.
func (h *host) helper() int {
	raw, err := os.ReadFile(deviceOptions(device, h.dir).PIDFile)
	if err != nil {
		return 0
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(raw)))
	return pid
}

// ping sends n packets, interval apart, and returns how many were lost.
func (h *host) ping(to string, n int, interval time.Duration) <-chan int {
	h.t.Helper()
	lost := make(chan int, 1)
	cmd := exec.Command("ip", "netns", "exec", h.ns, "ping", "-n", "-q", "-c", strconv.Itoa(n), "-i", fmt.Sprint(interval.Seconds()), "-W", "1", to)
	go func() {
		out, _ := cmd.CombinedOutput() // fails when nothing is answered: then n are lost
		lost <- n - received(string(out))
	}()
	return lost
}

// received reads ping's "3 packets transmitted, 2 received, …".
func received(out string) int {
	for part := range strings.SplitSeq(out, ",") {
		if count, ok := strings.CutSuffix(part, " received"); ok {
			n, _ := strconv.Atoi(strings.TrimSpace(count))
			return n
		}
	}
	return 0
}
