package facts

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/plexusmesh/plexus/mesh"
)

// maxNamedPorts is how many ports a claim declares at most (control.ValidateClaim
// refuses more).
const maxNamedPorts = 64

// ParseNamedPorts reads the setting "named-ports": entries such as "pg=5432/TCP",
// each name once for a protocol. The result is sorted. Errors name the entry.
func ParseNamedPorts(entries []string) ([]mesh.NamedPort, error) {
	var out []mesh.NamedPort
	var errs []error
	if len(entries) > maxNamedPorts {
		errs = append(errs, fmt.Errorf("named-ports has %d entries: use at most %d", len(entries), maxNamedPorts))
	}
	for _, text := range entries {
		p, err := parseNamedPort(strings.TrimSpace(text))
		if err == nil && slices.ContainsFunc(out, p.Same) {
			err = fmt.Errorf("%s has the name %q already: use each name once", p.Protocol, p.Name)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("named-ports entry %.80q: %w", text, err))
			continue
		}
		out = append(out, p)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	slices.SortFunc(out, mesh.NamedPort.Compare)
	return out, nil
}

func parseNamedPort(text string) (mesh.NamedPort, error) {
	name, rest, assigned := strings.Cut(text, "=")
	number, protocol, hasProtocol := strings.Cut(rest, "/")
	port, err := strconv.ParseUint(number, 10, 16)
	if !assigned || !hasProtocol || err != nil || strings.HasPrefix(number, "0") {
		return mesh.NamedPort{}, errors.New("malformed: write it as pg=5432/TCP, with a port from 1 to 65535")
	}
	p := mesh.NamedPort{Name: name, Port: uint16(port), Protocol: strings.ToUpper(protocol)}
	return p, p.Validate()
}
