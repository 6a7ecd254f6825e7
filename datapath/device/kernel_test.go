package device_test

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/datapath/device"
	"github.com/plexusmesh/plexus/internal/netnstest"
	nl "github.com/vishvananda/netlink"
)

func ip(t *testing.T, line string) string {
	t.Helper()
	out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput()
	if err != nil {
		t.Errorf("ip %s: %v\n%s", line, err, out)
	}
	return string(out)
}

func TestEnsureTunnel(t *testing.T) {
	netnstest.Run(t, func() {
		ip(t, "tuntap add dev tun9 mode tun")
		for _, want := range []datapath.Tunnel{
			{Name: "tun9", MTU: 1420, Addresses: hosts("10.1.0.1", "fd01::1")},
			{Name: "tun9", MTU: 1380, Addresses: hosts("10.1.0.2", "fd01::1")},
			{Name: "tun9", MTU: 1420},
		} {
			for range 2 {
				if err := device.EnsureTunnel(t.Context(), want); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, tunnel(t, "tun9"), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
					t.Errorf("tunnel (-want +got):\n%s", diff)
				}
			}
		}
	})
}

func hosts(addrs ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, a := range addrs {
		addr := netip.MustParseAddr(a)
		out = append(out, netip.PrefixFrom(addr, addr.BitLen()))
	}
	return out
}

// tunnel reads the device back. It is up only if it can have a usable address.
func tunnel(t *testing.T, name string) datapath.Tunnel {
	t.Helper()
	link, err := nl.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	addrs, err := nl.AddrList(link, nl.FAMILY_ALL)
	if err != nil {
		t.Fatal(err)
	}
	out := datapath.Tunnel{Name: name, MTU: link.Attrs().MTU}
	for _, a := range addrs {
		p, _ := netip.ParsePrefix(a.IPNet.String())
		if !p.Addr().IsLinkLocalUnicast() {
			out.Addresses = append(out.Addresses, p)
		}
	}
	if up := ip(t, "-br link show up dev "+name); up == "" || strings.Contains(ip(t, "addr show "+name), "tentative") {
		t.Errorf("%s is down, or has a tentative address", name)
	}
	return out
}

func TestEnsureTunnelErrors(t *testing.T) {
	netnstest.Run(t, func() {
		if err := device.EnsureTunnel(t.Context(), datapath.Tunnel{Name: "tun9"}); err == nil || !strings.Contains(err.Error(), "tun9") {
			t.Errorf("without the device: %v", err)
		}
		ip(t, "tuntap add dev tun9 mode tun")
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/tun9/disable_ipv6", []byte("1"), 0); err != nil {
			t.Fatal(err)
		}
		err := device.EnsureTunnel(t.Context(), datapath.Tunnel{Name: "tun9", MTU: 1420, Addresses: hosts("fd01::1", "10.1.0.1")})
		if err == nil || !strings.Contains(err.Error(), "sysctl net.ipv6.conf.tun9.disable_ipv6=0") {
			t.Errorf("with IPv6 off: %v; want the remedy", err)
		}
		if !slices.Equal(tunnel(t, "tun9").Addresses, hosts("10.1.0.1")) {
			t.Error("the IPv4 address was not added because IPv6 failed")
		}
	})
}

// TestWatch changes the network from within the callback, which runs where Run
// does, and so in the namespace.
func TestWatch(t *testing.T) {
	netnstest.Run(t, func() {
		ip(t, "link add up0 type veth peer name far0")
		ip(t, "link set far0 up")
		ip(t, "link set up0 up")
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
		defer cancel()
		steps := []struct{ change, want string }{
			{"addr add 192.0.2.1/24 dev up0", "[]"},
			{"addr add 2001:db8::1/64 dev up0 nodad", "[192.0.2.1]"},
			{"route add default via 192.0.2.254", "[192.0.2.1 2001:db8::1]"},
			{"link set up0 mtu 1400", "[192.0.2.1 2001:db8::1] default"},
			{"addr del 192.0.2.1/24 dev up0", "[192.0.2.1 2001:db8::1] default 1400"},
			{"link del up0", "[2001:db8::1]"},
			{"", "[]"},
		}
		got := 0
		w := device.NewWatcher(device.Options{Tunnel: "plexus0"}, slog.New(slog.DiscardHandler), func(s device.State) {
			if got >= len(steps) || !strings.HasPrefix(summary(s), steps[got].want) {
				return // an intermediate state: one command can change several things
			}
			if line := steps[got].change; line != "" {
				ip(t, line)
			} else {
				cancel()
			}
			got++
		})
		if err := w.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
		if got != len(steps) {
			t.Errorf("saw %d of %d states; next %q", got, len(steps), steps[got].want)
		}
	})
}

func summary(s device.State) string {
	var b strings.Builder
	b.WriteString("[" + strings.Trim(strings.Join(addresses(s), " "), " ") + "]")
	if len(s.Uplinks) == 1 && s.Uplinks[0].Default {
		b.WriteString(" default")
	}
	if s.MTU == 1400 {
		b.WriteString(" 1400")
	}
	return b.String()
}

func addresses(s device.State) []string {
	var out []string
	for _, a := range s.Addresses {
		out = append(out, a.String())
	}
	return out
}

func TestSilent(t *testing.T) {
	netnstest.Run(t, func() {
		ip(t, "link add sil0 type veth peer name sil1")
		ip(t, "link add sbr0 type bridge")
		for _, step := range []struct {
			change string
			want   bool
		}{
			{"addr add 192.0.2.9/24 dev sil0", true}, // still down
			{"link set sil0 up", false},
			{"addr flush dev sil0", true},
			{"addr add 192.0.2.9/24 dev sil0", false},
			{"link set sil0 down", true},
			{"link set sil0 master sbr0", false}, // its bridge's from now on
			{"link del sil0", false},
		} {
			ip(t, step.change)
			if got := device.Silent("sil0"); got != step.want {
				t.Errorf("Silent after ip %s: %v, want %v", step.change, got, step.want)
			}
		}
	})
}
