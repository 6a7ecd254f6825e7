package config

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"

	"github.com/plexusmesh/plexus/agent/facts"
)

// DefaultFile is read when no other is named; it need not exist.
const DefaultFile = "/etc/plexus/plexusd.yaml"

// Config is everything that can be set. The key of a field is its mapstructure
// tag; nested keys are joined with dots in the file's path, with dashes in flags
// (--log-level) and with underscores in the environment (PLEXUS_LOG_LEVEL).
type Config struct {
	StateDir   string   `mapstructure:"state-dir"`   // keys, certificates, embedded etcd
	RuntimeDir string   `mapstructure:"runtime-dir"` // sockets and process ids
	BPFRoot    string   `mapstructure:"bpf-root"`    // pins, on a BPF file system
	CgroupRoot string   `mapstructure:"cgroup-root"` // cgroup v2 mount
	Interfaces []string `mapstructure:"interfaces"`  // managed uplinks, names or patterns as path.Match takes them; empty: found by their routes and addresses

	Failsafe   []string `mapstructure:"failsafe"`    // as facts.ParseFailsafe reads it
	NamedPorts []string `mapstructure:"named-ports"` // as facts.ParseNamedPorts reads it

	Policy     Policy     `mapstructure:"policy"`
	Log        Log        `mapstructure:"log"`
	WireGuard  WireGuard  `mapstructure:"wireguard"`
	Encryption Encryption `mapstructure:"encryption"`
	API        API        `mapstructure:"api"`
	Etcd       Etcd       `mapstructure:"etcd"`
	Conntrack  Conntrack  `mapstructure:"conntrack"`
	Flows      Flows      `mapstructure:"flows"`
	Guard      Guard      `mapstructure:"guard"`
	Datapath   Datapath   `mapstructure:"datapath"`
}

// Policy is where this host finds policies of its own, and how it reads all.
type Policy struct {
	Dir                 string `mapstructure:"dir"`                 // of YAML files; need not exist
	DefaultLocalCluster bool   `mapstructure:"defaultLocalCluster"` // whether a peer selector without a cluster means this host's alone
}

// Log says what is logged, to standard error.
type Log struct {
	Level  string `mapstructure:"level"`  // debug, info, warn or error
	Format string `mapstructure:"format"` // text or json
}

// WireGuard is the tunnel device.
type WireGuard struct {
	Device string `mapstructure:"device"` // at most 15 bytes
	Port   int    `mapstructure:"port"`   // UDP
}

// Encryption says what goes through the tunnel besides mesh addresses.
type Encryption struct {
	NodeAddresses bool `mapstructure:"nodeAddresses"` // whether traffic between node addresses of direct peers does
}

// API is the join API of a server.
type API struct {
	Port int `mapstructure:"port"` // TCP
}

// Etcd is the embedded etcd of a server.
type Etcd struct {
	ClientPort int `mapstructure:"client-port"` // TCP
	PeerPort   int `mapstructure:"peer-port"`   // TCP
}

// Conntrack is the connection-tracking map.
type Conntrack struct {
	Size int `mapstructure:"size"` // flows; the least recently used give way
}

// Datapath is how packets are judged.
type Datapath struct {
	XDP         string `mapstructure:"xdp"`         // XDPAuto or XDPOff: whether drivers drop what comes from denied prefixes, and what is beyond SourceLimit
	SourceLimit int    `mapstructure:"sourceLimit"` // new flows that one stranger may open in a second; 0 for any number
}

// The values of datapath.xdp.
const (
	XDPAuto = "auto" // where the driver runs XDP itself, while policy denies some prefix or strangers have a limit
	XDPOff  = "off"
)

// maxSourceLimit is a flow each microsecond.
const maxSourceLimit = 1_000_000

// Flows is the memory of observed flows.
type Flows struct {
	Capacity int `mapstructure:"capacity"` // flows
}

// Guard is what happens at boot, before the network comes up (plexusd guard).
type Guard struct {
	OnFailure  string        `mapstructure:"onFailure"`  // GuardOpen or GuardClosed: what a host does whose saved policy cannot be put in force
	Timeout    time.Duration `mapstructure:"timeout"`    // after which a boot goes on, whatever is missing
	Interfaces string        `mapstructure:"interfaces"` // GuardKnown or GuardPhysical: which interfaces are guarded
}

// Values of Guard.
const (
	GuardOpen     = "open"
	GuardClosed   = "closed"
	GuardKnown    = "known"    // those that this host last managed
	GuardPhysical = "physical" // these, and all that look like hardware
)

// maxGuardTimeout is below what systemd/plexus-guard.service allows, so that the
// guard itself says what is missing.
const maxGuardTimeout = time.Minute

// flagName turns a key into its flag: log.level is --log-level, and
// policy.defaultLocalCluster is --policy-default-local-cluster.
func flagName(key string) string {
	var b strings.Builder
	for _, r := range strings.ReplaceAll(key, ".", "-") {
		if unicode.IsUpper(r) {
			b.WriteByte('-')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// envName turns a key into its variable: that of --log-level is PLEXUS_LOG_LEVEL.
func envName(key string) string {
	return "PLEXUS_" + strings.ToUpper(strings.ReplaceAll(flagName(key), "-", "_"))
}

// AddFlags gives flags a flag for every key, and --config.
func AddFlags(flags *pflag.FlagSet) {
	flags.String("config", DefaultFile, "configuration file")
	for key, value := range defaults {
		switch v := value.(type) {
		case string:
			flags.String(flagName(key), v, usage[key])
		case int:
			flags.Int(flagName(key), v, usage[key])
		case bool:
			flags.Bool(flagName(key), v, usage[key])
		case []string:
			flags.StringSlice(flagName(key), v, usage[key])
		case time.Duration:
			flags.Duration(flagName(key), v, usage[key])
		}
	}
}

// Load reads the configuration that flags, as AddFlags made them, ask for.
func Load(flags *pflag.FlagSet) (Config, error) {
	v := viper.New()
	for key, value := range defaults {
		v.SetDefault(key, value)
		if err := errors.Join(v.BindEnv(key, envName(key)), v.BindPFlag(key, flags.Lookup(flagName(key)))); err != nil {
			return Config{}, fmt.Errorf("bind setting %s: %w", key, err)
		}
	}
	if err := readFile(v, flags.Lookup("config")); err != nil {
		return Config{}, err
	}
	var c Config
	if err := v.UnmarshalExact(&c); err != nil {
		return Config{}, fmt.Errorf("read configuration %s: %w", v.ConfigFileUsed(), tidy(err))
	}
	return c, c.Validate()
}

// readFile reads the file. Only the default file may be missing.
func readFile(v *viper.Viper, flag *pflag.Flag) error {
	path := flag.Value.String()
	v.SetConfigFile(path)
	v.SetConfigType("yaml")
	err := v.ReadInConfig()
	if errors.Is(err, fs.ErrNotExist) && !flag.Changed {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read configuration %s: %w", path, err)
	}
	return nil
}

// tidy words the decoder's complaint about unknown keys for people.
func tidy(err error) error {
	text := err.Error()
	if i := strings.Index(text, "has invalid keys: "); i >= 0 {
		return fmt.Errorf("unknown keys: %s: remove or correct them (plexusd --help lists every setting)", strings.TrimSpace(text[i+len("has invalid keys: "):]))
	}
	return err
}

// Validate reports every problem at once.
func (c Config) Validate() error {
	return errors.Join(
		absolute("state-dir", c.StateDir), absolute("runtime-dir", c.RuntimeDir),
		absolute("bpf-root", c.BPFRoot), absolute("cgroup-root", c.CgroupRoot),
		absolute("policy.dir", c.Policy.Dir), c.validateFacts(),
		c.validateInterfaces(), c.validateLog(), c.validateDevice(), c.validatePorts(),
		between("conntrack.size", c.Conntrack.Size, 1024, 16<<20),
		between("flows.capacity", c.Flows.Capacity, 1, 1<<24),
		c.Guard.validate(), c.Datapath.validate(),
	)
}

func absolute(key, path string) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("%s %q is not an absolute path", key, path)
	}
	return nil
}

func between(key string, n, low, high int) error {
	if n < low || n > high {
		return fmt.Errorf("%s %d is out of range: use %d to %d", key, n, low, high)
	}
	return nil
}

func (d Datapath) validate() error {
	if d.XDP != XDPAuto && d.XDP != XDPOff {
		return fmt.Errorf("datapath.xdp %q is unknown: use auto or off", d.XDP)
	}
	return between("datapath.sourceLimit", d.SourceLimit, 0, maxSourceLimit)
}

func (c Config) validateFacts() error {
	_, failsafe := facts.ParseFailsafe(c.Failsafe)
	_, named := facts.ParseNamedPorts(c.NamedPorts)
	return errors.Join(failsafe, named)
}

// validateInterfaces refuses what could never match: an interface that is left
// out without a word carries its packets unjudged.
func (c Config) validateInterfaces() error {
	var errs []error
	for _, name := range c.Interfaces {
		if _, err := path.Match(name, ""); err != nil || name == "" || strings.ContainsAny(name, "/ \t\n") {
			errs = append(errs, fmt.Errorf("interfaces: %q matches no interface: use a name, or a pattern such as eth*", name))
		}
	}
	return errors.Join(errs...)
}

func (g Guard) validate() error {
	var errs []error
	if g.OnFailure != GuardOpen && g.OnFailure != GuardClosed {
		errs = append(errs, fmt.Errorf("guard.onFailure %q is unknown: use %s or %s", g.OnFailure, GuardOpen, GuardClosed))
	}
	if g.Timeout < time.Second || g.Timeout > maxGuardTimeout {
		errs = append(errs, fmt.Errorf("guard.timeout %v is out of range: use 1s to %v", g.Timeout, maxGuardTimeout))
	}
	if g.Interfaces != GuardKnown && g.Interfaces != GuardPhysical {
		errs = append(errs, fmt.Errorf("guard.interfaces %q is unknown: use %s or %s", g.Interfaces, GuardKnown, GuardPhysical))
	}
	return errors.Join(errs...)
}

func (c Config) validateLog() error {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Log.Level)); err != nil {
		return fmt.Errorf("log.level %q is unknown: use debug, info, warn or error", c.Log.Level)
	}
	if c.Log.Format != "text" && c.Log.Format != "json" {
		return fmt.Errorf("log.format %q is unknown: use text or json", c.Log.Format)
	}
	return nil
}

// validateDevice follows the kernel's dev_valid_name (net/core/dev.c).
func (c Config) validateDevice() error {
	name := c.WireGuard.Device
	if name == "" || len(name) > 15 || name == "." || name == ".." || strings.ContainsAny(name, "/: \t\n%") {
		return fmt.Errorf("wireguard.device %q cannot name an interface: use 1 to 15 letters, digits, '-', '_' and '.'", name)
	}
	return nil
}

func (c Config) validatePorts() error {
	errs := []error{between("wireguard.port", c.WireGuard.Port, 1, 65535)}
	tcp := map[int]string{}
	for _, p := range []struct {
		key  string
		port int
	}{{"api.port", c.API.Port}, {"etcd.client-port", c.Etcd.ClientPort}, {"etcd.peer-port", c.Etcd.PeerPort}} {
		errs = append(errs, between(p.key, p.port, 1, 65535))
		if other, taken := tcp[p.port]; taken {
			errs = append(errs, fmt.Errorf("%s and %s are both %d: choose different ports", other, p.key, p.port))
		}
		tcp[p.port] = p.key
	}
	return errors.Join(errs...)
}

// Socket returns the path of the daemon's socket.
func (c Config) Socket() string { return filepath.Join(c.RuntimeDir, "plexusd.sock") }

// Logger returns the logger that the configuration asks for.
func (c Config) Logger() *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.Log.Level)) // Validate has checked it
	opts := &slog.HandlerOptions{Level: level}
	if c.Log.Format == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, opts))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, opts))
}
