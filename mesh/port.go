package mesh

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// portProtocols are those whose ports can be declared.
var portProtocols = []string{"TCP", "UDP", "SCTP"}

// portName is an IANA service name (RFC 6335, section 5.1), apart from what a
// regular expression cannot say: at least one letter, no two dashes in a row.
var portName = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9]{0,13}[A-Za-z0-9])?$`)

// Validate reports why p cannot be declared.
func (p NamedPort) Validate() error {
	letter := strings.ContainsAny(strings.ToLower(p.Name), "abcdefghijklmnopqrstuvwxyz")
	switch {
	case !portName.MatchString(p.Name) || !letter || strings.Contains(p.Name, "--"):
		return fmt.Errorf("port name %.40q is malformed: use 1 to 15 letters, digits and single inner dashes, at least one letter", p.Name)
	case p.Port == 0:
		return fmt.Errorf("port %s is 0: use 1 to 65535", p.Name)
	case !slices.Contains(portProtocols, p.Protocol):
		return fmt.Errorf("protocol %.40q of port %s is unknown: use TCP, UDP or SCTP", p.Protocol, p.Name)
	}
	return nil
}

// Same reports whether both have one name in one protocol: names are compared
// without regard to case (RFC 6335, section 5.1). A host declares it once.
func (p NamedPort) Same(o NamedPort) bool {
	return p.Protocol == o.Protocol && strings.EqualFold(p.Name, o.Name)
}

// Compare orders named ports by name, protocol and number.
func (p NamedPort) Compare(o NamedPort) int {
	return cmp.Or(cmp.Compare(p.Name, o.Name), cmp.Compare(p.Protocol, o.Protocol), cmp.Compare(p.Port, o.Port))
}

// Validate reports why no program can wait at l, as claims write it.
func (l Listener) Validate() error {
	if l.Protocol != "TCP" && l.Protocol != "UDP" {
		return fmt.Errorf("protocol %.40q of a listener is unknown: use TCP or UDP", l.Protocol)
	}
	if l.Port == 0 {
		return fmt.Errorf("listener of %s has port 0", l.Protocol)
	}
	return nil
}

// Compare orders listeners by protocol and port.
func (l Listener) Compare(o Listener) int {
	return cmp.Or(cmp.Compare(l.Protocol, o.Protocol), cmp.Compare(l.Port, o.Port))
}
