package mesh

import "testing"

func TestNamedPortValidate(t *testing.T) {
	for _, tt := range []struct {
		port NamedPort
		ok   bool
	}{
		{NamedPort{"pg", 5432, "TCP"}, true},
		{NamedPort{"a", 1, "UDP"}, true},
		{NamedPort{"x11-2", 6000, "SCTP"}, true},
		{NamedPort{"fifteen-letters", 1, "TCP"}, true},
		{NamedPort{"sixteen-letters-", 1, "TCP"}, false},
		{NamedPort{"sixteen-letters0", 1, "TCP"}, false},
		{NamedPort{"", 1, "TCP"}, false},
		{NamedPort{"80", 80, "TCP"}, false},
		{NamedPort{"a--b", 80, "TCP"}, false},
		{NamedPort{"-a", 80, "TCP"}, false},
		{NamedPort{"a_b", 80, "TCP"}, false},
		{NamedPort{"pg", 0, "TCP"}, false},
		{NamedPort{"pg", 1, "tcp"}, false},
		{NamedPort{"pg", 1, ""}, false},
		{NamedPort{"pg", 1, "ICMP"}, false},
	} {
		if err := tt.port.Validate(); (err == nil) != tt.ok {
			t.Errorf("%+v: %v", tt.port, err)
		}
	}
}

func TestOneNameForEachProtocol(t *testing.T) {
	pg := NamedPort{"pg", 5432, "TCP"}
	if !pg.Same(NamedPort{"PG", 1, "TCP"}) || pg.Same(NamedPort{"pg", 5432, "UDP"}) || pg.Same(NamedPort{"pg2", 5432, "TCP"}) {
		t.Error("names are told apart by something other than name and protocol")
	}
}

// An agent that knows of no listener and one that knows that there is none say
// different things.
func TestClaimTellsUnknownFromNone(t *testing.T) {
	for _, pair := range [][2]Claim{
		{{Listening: nil}, {Listening: []Listener{}}},
		{{Pinholes: nil}, {Pinholes: []string{}}},
	} {
		if pair[0].Equal(pair[1]) || !pair[1].Equal(pair[1]) {
			t.Errorf("%+v and %+v say the same", pair[0], pair[1])
		}
	}
}
