package mesh

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/plexusmesh/plexus/internal/lab"
)

// mark is what talkers say. Whoever reads it on the wire has read a secret.
const mark = "plexus-vm-secret"

// roleEnv makes this binary a talker instead of a test.
const roleEnv = "PLEXUS_VM_ROLE"

func TestMain(m *testing.M) {
	var err error
	switch os.Getenv(roleEnv) {
	case "":
		os.Exit(m.Run())
	case "echo":
		err = echo(os.Args[1:])
	case "ask":
		err = ask(os.Args[1])
	case "tell":
		err = tell(os.Args[1])
	case "stream":
		err = stream(os.Args[1], os.Args[2])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// echo answers on TCP and UDP ports until its standard input ends.
func echo(ports []string) error {
	for _, port := range ports {
		u, err := net.ListenPacket("udp", ":"+port)
		if err != nil {
			return err
		}
		go echoDatagrams(u)
		l, err := net.Listen("tcp", ":"+port)
		if err != nil {
			return err
		}
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					_, _ = io.Copy(c, c)
				}()
			}
		}()
	}
	fmt.Println("ready")
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

func echoDatagrams(u net.PacketConn) {
	b := make([]byte, 1500)
	for {
		n, from, err := u.ReadFrom(b)
		if err != nil {
			return
		}
		_, _ = u.WriteTo(b[:n], from)
	}
}

// patience is how long a talker waits for an answer, on an emulated processor.
const patience = 5 * time.Second

// ask says something and wants it back.
func ask(addr string) error {
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	for range 20 {
		if _, err := io.WriteString(c, mark); err != nil {
			return err
		}
		if _, err := io.ReadFull(c, make([]byte, len(mark))); err != nil {
			return err
		}
	}
	return nil
}

// tell says something in a datagram, which needs nobody to agree.
func tell(addr string) error {
	c, err := net.Dial("udp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = io.WriteString(c, mark)
	return err
}

// serve starts an echo on a host for the rest of the test.
func serve(t *testing.T, h *lab.Host, ports ...string) {
	t.Helper()
	cmd := h.Command(t.Context(), append([]string{self(t)}, ports...)...)
	cmd.Env = append(cmd.Env, roleEnv+"=echo")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("echo on %s says %q: %v", h.Name, line, err)
	}
}

// talk runs a talker, ask or tell, and returns why it failed, or nil.
func talk(t *testing.T, from *lab.Host, role string, to netip.AddrPort) error {
	t.Helper()
	cmd := from.Command(t.Context(), self(t), to.String())
	cmd.Env = append(cmd.Env, roleEnv+"="+role)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

func self(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}
