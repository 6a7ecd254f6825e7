package main

// release is one of Debian's, with its kernel for machines in a cloud, which is
// small and boots anywhere.
type release struct {
	kernel  string // series, as the budget calls it
	suite   string
	image   string // package of the kernel
	updates bool   // the suite still gets updates besides those for security
}

// releases are the kernels that Plexus promises to run on: the floor, and those
// of the releases that Debian supports. Where a release has ended, the package
// names one kernel, as nothing moves the newest any more.
var releases = []release{
	{kernel: "5.10", suite: "bullseye", image: "linux-image-5.10.0-46-cloud-amd64"},
	{kernel: "6.1", suite: "bookworm", image: "linux-image-cloud-amd64", updates: true},
	{kernel: "6.12", suite: "trixie", image: "linux-image-cloud-amd64", updates: true},
}

// programs are the packages that a guest has besides its kernel: what tests and
// the test hosts of internal/lab call, with what that depends on.
var programs = []string{
	"kmod", "iproute2", "nftables", "util-linux", "mount", "coreutils", "findutils", "dash", "grep", "sed", "procps", "iputils-ping", "wireguard-tools",
}

const mirror = "http://deb.debian.org"

// sources are the lines of apt's sources.list.
func (r release) sources() []string {
	out := []string{
		"deb " + mirror + "/debian " + r.suite + " main",
		"deb " + mirror + "/debian-security " + r.suite + "-security main",
	}
	if r.updates {
		out = append(out, "deb "+mirror+"/debian "+r.suite+"-updates main")
	}
	return out
}
