package main

import (
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"
)

// orDash makes an empty cell visible.
func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// plumbing are labels that every host carries; tables leave them out.
var plumbing = []string{"io.cilium.k8s.", "io.kubernetes.pod.namespace="}

// shortLabels are labels as people gave them: app=web for k8s:app=web.
func shortLabels(labels []string) []string {
	var out []string
	for _, l := range labels {
		l = strings.TrimPrefix(l, "k8s:")
		if !slices.ContainsFunc(plumbing, func(p string) bool { return strings.HasPrefix(l, p) }) {
			out = append(out, l)
		}
	}
	return out
}

func commas(parts []string) string { return strings.Join(parts, ",") }

func addrs(as ...netip.Addr) string {
	var out []string
	for _, a := range as {
		if a.IsValid() {
			out = append(out, a.String())
		}
	}
	return commas(out)
}

func labelMap(m map[string]string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, k+"="+m[k])
	}
	return commas(out)
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// byteSize is n in binary units with three digits.
func byteSize(n int64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, i := float64(n)/1024, 0
	for f >= 1024 && i < len(units)-1 {
		f, i = f/1024, i+1
	}
	return fmt.Sprintf("%.3g %ciB", f, units[i])
}

// isTerminal reports whether w is a terminal.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && onTerminal(f)
}

// palette colours words for people.
type palette struct{ on bool }

// newPalette colours on a terminal, unless NO_COLOR (no-color.org) is set.
func newPalette(w io.Writer) palette {
	return palette{isTerminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
}

func (p palette) good(s string) string { return p.paint("32", s) }
func (p palette) bad(s string) string  { return p.paint("31", s) }

func (p palette) paint(code, s string) string {
	if !p.on {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// progress tells a person at a terminal what takes so long.
func progress(w io.Writer, format string, args ...any) {
	if isTerminal(w) {
		fmt.Fprintf(w, format+"\n", args...)
	}
}
