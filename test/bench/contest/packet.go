package contest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
)

// packetGoal is the most that a packet of an established flow may cost above an
// empty program, in nanoseconds.
const packetGoal = 30

// Packet is what a program costs by itself, as BPF_PROG_TEST_RUN tells it, for one
// packet.
type Packet struct {
	Kind    string  `json:"kind"`    // the benchmark of datapath/loader
	Program string  `json:"program"` // of the kernel
	Case    string  `json:"case"`    // family, and protocol
	Empty   float64 `json:"empty"`   // of an empty program in the same run, nanoseconds
	Above   float64 `json:"above"`   // more than that, nanoseconds
}

// kinds are the benchmarks, and what they say of a packet: which way it goes, and
// where it is looked for. Tests of datapath/loader hold the latter for the first two.
var kinds = []struct{ name, way, lookups string }{
	{"Established", "short way: plain TCP or UDP of an open flow", "the CPU's cache of flows, by index; no table of flows, no policy"},
	{"LongWay", "long way: the same with IP options", "the table of flows, once; no policy"},
	{"Opening", "a packet that opens a flow like one a moment ago", "both tables of flows, and what the CPU judged last, by index; no policy"},
}

// packets runs the benchmarks of datapath/loader, which tests is built from
// (go test -c).
func packets(ctx context.Context, tests string) ([]Packet, error) {
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = k.name
	}
	cmd := exec.CommandContext(ctx, tests, "-test.run", "^$", "-test.bench", "^Benchmark("+strings.Join(names, "|")+")$", "-test.benchtime", "500000x")
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("run %s: %w: %.500s", tests, err, out)
	}
	return parsePackets(out)
}

// parsePackets reads what go test prints.
func parsePackets(out []byte) (all []Packet, err error) {
	lines := bufio.NewScanner(bytes.NewReader(out))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 || !strings.HasPrefix(fields[0], "Benchmark") {
			continue
		}
		p, err := parsePacket(fields)
		if err != nil {
			return nil, fmt.Errorf("read benchmark %q: %w", lines.Text(), err)
		}
		all = append(all, p)
	}
	if len(all) == 0 {
		return nil, errors.New("read benchmarks of packets: there are none")
	}
	return all, lines.Err()
}

// parsePacket reads a name, a count, and then pairs of a number and its unit.
func parsePacket(fields []string) (p Packet, err error) {
	name, _, _ := strings.Cut(strings.TrimPrefix(fields[0], "Benchmark"), "-") // the number of CPUs follows
	parts := strings.SplitN(name, "/", 3)
	if len(parts) < 3 {
		return p, errors.New("want kind/program/case")
	}
	p = Packet{Kind: parts[0], Program: parts[1], Case: strings.ReplaceAll(parts[2], "/", ", ")}
	units := map[string]*float64{"ns-empty": &p.Empty, "ns-above-empty": &p.Above}
	for i := 2; i+1 < len(fields); i += 2 {
		value, ok := units[fields[i+1]]
		if !ok {
			continue
		}
		delete(units, fields[i+1])
		if *value, err = strconv.ParseFloat(fields[i], 64); err != nil {
			return p, err
		}
	}
	if len(units) > 0 {
		return p, errors.New("a measured value is missing")
	}
	return p, nil
}

// check is the line about the worst of the packets that the target is about.
func (r Report) packetCheck() []Check {
	worst := Packet{}
	for _, p := range r.Packets {
		if p.Kind == kinds[0].name && p.Above >= worst.Above {
			worst = p
		}
	}
	if worst.Kind == "" {
		return nil
	}
	return []Check{{
		What: "packet of an established flow, above an empty program", Target: fmt.Sprintf("<= %d ns", packetGoal),
		Measured: fmt.Sprintf("at most %.0f ns (%s, %s)", worst.Above, worst.Program, worst.Case), Met: worst.Above <= packetGoal,
	}}
}
