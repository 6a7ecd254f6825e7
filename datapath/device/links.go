package device

import (
	"context"
	"errors"
	"fmt"
	"net"

	nl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Link is an interface as the kernel lists it, whether it is of use or not.
type Link struct {
	Name  string
	Index int
	// Physical is whether it looks like hardware: nobody made it by configuration
	// (rtnetlink(7), IFLA_INFO_KIND).
	Physical bool
}

// Exists reports whether there is an interface of that name.
func Exists(name string) bool {
	_, err := nl.LinkByName(name)
	return err == nil
}

// FollowLinks calls see with the interfaces of the network namespace that it is
// called in, without loopback and by index: at once, and again as soon as
// anything about them changes, until see says that it has seen enough or ctx
// ends. That is no error.
func FollowLinks(ctx context.Context, see func([]Link) (enough bool)) error {
	news, err := subscribe()
	if err != nil {
		return fmt.Errorf("watch interfaces: %w", err)
	}
	defer news.Close()
	stop := context.AfterFunc(ctx, func() { _ = news.Close() }) // ends the read below
	defer stop()
	buf := make([]byte, 64<<10)
	for {
		all, err := whole(nl.LinkList())
		if err != nil {
			return fmt.Errorf("list interfaces: %w", err)
		}
		if see(outside(all)) {
			return nil
		}
		_, err = news.Read(buf)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && !errors.Is(err, unix.ENOBUFS): // of lost news the next look sees all
			return fmt.Errorf("watch interfaces: %w", err)
		}
	}
}

// outside returns the links that lead out of this host, or may.
func outside(all []nl.Link) []Link {
	var out []Link
	for _, l := range all {
		a := l.Attrs()
		if a.Flags&net.FlagLoopback == 0 {
			out = append(out, Link{Name: a.Name, Index: a.Index, Physical: l.Type() == "device"})
		}
	}
	return out
}
