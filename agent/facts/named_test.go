package facts

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/plexusmesh/plexus/mesh"
)

func TestParseNamedPorts(t *testing.T) {
	got, err := ParseNamedPorts([]string{"pg=5432/TCP", " dns=53/udp ", "dns=53/TCP", "diameter=3868/sctp"})
	if err != nil {
		t.Fatal(err)
	}
	want := []mesh.NamedPort{
		{Name: "diameter", Port: 3868, Protocol: "SCTP"}, {Name: "dns", Port: 53, Protocol: "TCP"},
		{Name: "dns", Port: 53, Protocol: "UDP"}, {Name: "pg", Port: 5432, Protocol: "TCP"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ports (-want +got):\n%s", diff)
	}
}

func TestParseNamedPortsNamesEntryAndRemedy(t *testing.T) {
	many := make([]string, maxNamedPorts+1)
	for i := range many {
		many[i] = fmt.Sprintf("p%d=80/TCP", i)
	}
	for _, tt := range []struct {
		entries []string
		want    string
	}{
		{[]string{"pg"}, "pg=5432/TCP"},
		{[]string{"pg=5432"}, "pg=5432/TCP"},
		{[]string{"pg=0/TCP"}, "1 to 65535"},
		{[]string{"pg=05/TCP"}, "1 to 65535"},
		{[]string{"pg=70000/TCP"}, "1 to 65535"},
		{[]string{"pg=1/ANY"}, "use TCP, UDP or SCTP"},
		{[]string{"p_g=1/TCP"}, "port name"},
		{[]string{"pg=1/TCP", "PG=2/TCP"}, "already"},
		{many, "at most 64"},
	} {
		_, err := ParseNamedPorts(tt.entries)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%.60q: %v, want an error that says %q", tt.entries, err, tt.want)
		}
	}
}
