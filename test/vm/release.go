package main

// release is one of Debian's, with its kernel for machines in a cloud, which is
// small and boots anywhere.
type release struct {
	kernel  string // series, as the budget calls it
	suite   string
	image   string // package of the kernel
	archive archive
}

// archive says which parts of a release are used.
type archive struct{ security, updates bool }

// releases are the kernels that Plexus promises to run on: the floor, and those
// of the releases that Debian supports, with all their updates.
var releases = []release{
	{kernel: "5.10", suite: "bullseye", image: "linux-image-5.10.0-46-cloud-amd64", archive: archive{security: true}},
	{kernel: "6.1", suite: "bookworm", image: "linux-image-cloud-amd64", archive: archive{security: true, updates: true}},
	{kernel: "6.12", suite: "trixie", image: "linux-image-cloud-amd64", archive: archive{security: true, updates: true}},
}

// ended are releases that Debian has left behind, as they were at their last
// revision. Mirrors drop packages from their security updates one by one, the
// newest kernel's name first, and keep these.
var ended = map[string]release{
	"bullseye": {kernel: "5.10", suite: "bullseye", image: "linux-image-cloud-amd64"},
}

// programs are the packages that a guest has besides its kernel: what tests and
// the test hosts of internal/lab call, with what that depends on.
var programs = []string{
	"kmod", "iproute2", "nftables", "util-linux", "mount", "coreutils", "findutils", "dash", "grep", "sed", "procps", "iputils-ping", "netbase", "wireguard-tools",
}

const mirror = "http://deb.debian.org"

// sources are the lines of apt's sources.list.
func (r release) sources() []string {
	out := []string{"deb " + mirror + "/debian " + r.suite + " main"}
	if r.archive.security {
		out = append(out, "deb "+mirror+"/debian-security "+r.suite+"-security main")
	}
	if r.archive.updates {
		out = append(out, "deb "+mirror+"/debian "+r.suite+"-updates main")
	}
	return out
}
