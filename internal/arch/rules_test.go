package arch

// kind is what a package is to the data flow.
type kind int

const (
	_       kind = iota
	pure         // decides; touches neither kernel, network, file nor clock
	timed        // pure, but keeps time
	effect       // acts on one part of the world
	home         // builds and joins the parts
	command      // flags to configuration
	support      // for tests and builds
)

// rooms says what each package is, by the longest path that fits; a path that
// ends in /... covers what is below it, and fakes and harnesses (see testOnly)
// are support wherever they lie. A package that fits none fails the test,
// and so does a row that fits no package.
var rooms = map[string]kind{
	"mesh":            pure,
	"identity":        pure,
	"policy":          pure,
	"policy/review":   pure,
	"policy/scenario": pure,
	"state":           pure,
	"plan":            pure,
	"datapath":        pure,
	"encryption":      pure,
	"control":         pure,
	"control/token":   pure,
	"kvstore/schema":  pure,
	"agent/trial":     pure,
	"reconcile":       timed,
	"kvstore":         effect,
	"kvstore/...":     effect,
	"datapath/...":    effect,
	"encryption/...":  effect,
	"control/...":     effect,
	"observe":         effect,
	"agent":           home,
	"agent/...":       home,
	"cmd/...":         command,
	"internal/...":    support,
}

// notYet names parts of the design that nothing fits so far, with what brings
// them. Once a package is there, its row must move to rooms or go.
var notYet = map[string]string{
	"clustermesh": "federation",
	"gossip":      "liveness hints",
}

// bridges are the only ways between two rooms with effects.
var bridges = []struct{ from, to, why string }{
	{"control", "kvstore", "the server writes facts and keeps etcd's users: both are etcd keys"},
}

// foreign are the only libraries that pure packages may use, by import path.
var foreign = []struct{ from, path, why string }{
	{"policy", "go.yaml.in/yaml/v3", "policies are YAML, and errors must name the line; it parses bytes and opens nothing"},
	{"policy/scenario", "go.yaml.in/yaml/v3", "so are their tests"},
}

// testOnly, with what lies below, must not end up in what users run. Nor must what
// is under test/, or a package whose name ends in "test": a fake or a harness.
var testOnly = []string{"internal/lab"}

// far are dependencies, through any number of steps, that would make a program
// larger or stronger than it should be.
var far = []struct{ from, path, why string }{
	{"cmd/plexus", "go.etcd.io/etcd/server/v3", "the command line speaks to a daemon and never is a server"},
	{"cmd/plexus", "github.com/cilium/ebpf", "the command line shows what the daemon reads from the kernel"},
}

// impure are standard packages that reach the outside.
var impure = map[string]bool{
	"os": true, "os/exec": true, "os/signal": true, "os/user": true, "syscall": true, "plugin": true,
	"net/http": true, "net/rpc": true, "net/smtp": true, "crypto/tls": true, "log": true, "log/syslog": true, "testing": true,
}

// reaching are the names in otherwise harmless packages that reach the outside.
var reaching = map[string]map[string]bool{
	"time": names("Now", "Since", "Until", "Sleep", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick"),
	"net": names("Dial", "DialTimeout", "DialIP", "DialTCP", "DialUDP", "DialUnix", "Listen", "ListenIP", "ListenTCP", "ListenUDP",
		"ListenUnix", "ListenPacket", "ListenMulticastUDP", "ListenUnixgram", "Dialer", "ListenConfig", "Resolver", "DefaultResolver",
		"Interfaces", "InterfaceAddrs", "InterfaceByIndex", "InterfaceByName", "FileConn", "FileListener",
		"LookupAddr", "LookupCNAME", "LookupHost", "LookupIP", "LookupMX", "LookupNS", "LookupPort", "LookupSRV", "LookupTXT",
		"ResolveIPAddr", "ResolveTCPAddr", "ResolveUDPAddr"),
}

func names(all ...string) map[string]bool {
	set := map[string]bool{}
	for _, n := range all {
		set[n] = true
	}
	return set
}
