package contest

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParsePackets(t *testing.T) {
	out := `goos: linux
BenchmarkEstablished/to_netdev/IPv6/TCP-2         	  300000	        17.09 ns-above-empty	        33.82 ns-empty
BenchmarkOpening/from_tunnel/IPv4         	  300000	       330.5 ns-above-empty	        30.64 ns-empty
PASS
`
	got, err := parsePackets([]byte(out))
	if err != nil {
		t.Fatal(err)
	}
	want := []Packet{
		{Kind: "Established", Program: "to_netdev", Case: "IPv6, TCP", Empty: 33.82, Above: 17.09},
		{Kind: "Opening", Program: "from_tunnel", Case: "IPv4", Empty: 30.64, Above: 330.5},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("packets (-want +got):\n%s", diff)
	}
}

func TestParsePacketsRefuses(t *testing.T) {
	for name, out := range map[string]string{
		"nothing":       "PASS\n",
		"no program":    "BenchmarkEstablished-2 1 2 ns-above-empty 3 ns-empty\n",
		"a unit missed": "BenchmarkEstablished/to_netdev/IPv4/TCP-2 1 2 ns-empty\n",
		"no number":     "BenchmarkEstablished/to_netdev/IPv4/TCP-2 1 x ns-above-empty 3 ns-empty\n",
	} {
		if got, err := parsePackets([]byte(out)); err == nil {
			t.Errorf("%s: %v, want an error", name, got)
		}
	}
}

// lanesOf stands for a run: no programs twice, Plexus, nftables with a set, and
// Plexus with more rules.
func lanesOf() []*lane {
	return []*lane{
		{filter: filter{name: bare}}, {filter: filter{name: again}},
		{filter: filter{name: ours, rules: 10}}, {filter: filter{name: sets, rules: 10}},
		{filter: filter{name: ours, rules: 10000}},
	}
}

func TestChecks(t *testing.T) {
	c := contest{name: udpLoad, title: "UDP", unit: "packets/s", goal: 0.93, ahead: true}
	// The machine is twice as fast in the second round: ratios are those within one.
	rates := [][]float64{{90, 180, 90}, {110, 220, 110}, {94, 188, 10}, {95, 190, 95}, {90, 180, 90}}
	r := Report{
		Tables:  []Table{c.table(lanesOf(), rates)},
		Packets: []Packet{{Kind: "Established", Program: "a", Above: 20}, {Kind: "Established", Program: "b", Case: "IPv6", Above: 31}, {Kind: "Opening", Above: 300}},
	}
	want := []Check{
		{"UDP, 10 rules, to no programs", ">= 0.93", "0.940", true},
		{"UDP, 10 rules, to nftables, set and conntrack", "> 1", "0.989", false},
		{"UDP, 10000 rules, to no programs", ">= 0.93", "0.900", false},
		{"UDP, 10000 rules to 10", ">= 0.97", "0.957", false},
		{"packet of an established flow, above an empty program", "<= 30 ns", "at most 31 ns (b, IPv6)", false},
	}
	if diff := cmp.Diff(want, r.Checks()); diff != "" {
		t.Errorf("checks (-want +got):\n%s", diff)
	}
	var b strings.Builder
	r.Markdown(&b)
	for _, line := range []string{"| Plexus | 10 | 94 (10 to 94) | 0.940 (0.100 to 0.940) |", "| `b` | IPv6 | 31 (0) |"} {
		if !strings.Contains(b.String(), line) {
			t.Errorf("markdown has no line %q:\n%s", line, &b)
		}
	}
}

func TestPlotNeedsItsLoad(t *testing.T) {
	if err := (Report{}).Plot(&strings.Builder{}); err == nil {
		t.Error("a plot of nothing was drawn")
	}
	c := contest{name: udpLoad, title: "UDP", unit: "packets/s"}
	r := Report{Tables: []Table{c.table(lanesOf(), [][]float64{{1}, {1}, {1}, {1}, {1}})}}
	var b strings.Builder
	if err := r.Plot(&b); err != nil {
		t.Fatal(err)
	}
	// What has no rules is drawn at each of their numbers.
	if got, want := strings.Count(b.String(), "<circle"), len(ruleCounts)+3; got != want {
		t.Errorf("%d points, want %d", got, want)
	}
}

func TestChoose(t *testing.T) {
	got, err := choose([]string{"stream", "udp"})
	if err != nil || len(got) != 2 || got[0].name != "stream" {
		t.Errorf("choose: %v, %v", got, err)
	}
	if _, err := choose([]string{"sctp"}); err == nil {
		t.Error("an unknown load was chosen")
	}
}
