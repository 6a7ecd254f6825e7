package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// flipPeriod is how often each port is tried: what a flip is too late by at most.
const flipPeriod = 2 * time.Millisecond

// echo answers datagrams on these ports until killed.
func echo(ctx context.Context, ports []string) error {
	for _, port := range ports {
		c, err := net.ListenPacket("udp4", ":"+port)
		if err != nil {
			return fmt.Errorf("listen: %w", err)
		}
		defer c.Close()
		go answer(c)
	}
	fmt.Println("watching")
	<-ctx.Done()
	return nil
}

func answer(c net.PacketConn) {
	buf := make([]byte, 64)
	for {
		n, from, err := c.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			_, _ = c.WriteTo(buf[:n], from) // who is not reached asks again
		}
	}
}

// flip says that a port began to answer.
type flip struct {
	port string
	sent time.Time // when the first datagram that was answered was sent
}

// flips sends to each port of host all the time, each datagram with the time at
// which it was sent. Of the ports one is open at a time: whenever that is
// another one, it prints the port and that time, in nanoseconds since 1970.
func flips(ctx context.Context, host string, ports []string) error {
	seen := make(chan flip)
	for _, port := range ports {
		c, err := net.Dial("udp4", net.JoinHostPort(host, port))
		if err != nil {
			return fmt.Errorf("dial: %w", err)
		}
		defer c.Close()
		go ask(c)
		go hear(ctx, c, port, seen)
	}
	fmt.Println("watching")
	var now flip
	for {
		select {
		case <-ctx.Done():
			return nil
		case f := <-seen:
			if f.port != now.port && f.sent.After(now.sent) {
				now = f
				fmt.Println(f.port, f.sent.UnixNano())
			}
		}
	}
}

// ask sends the time until the connection is closed. While the port is shut by
// the far end's kernel, errors are as good as silence.
func ask(c net.Conn) {
	for {
		_, err := c.Write(binary.BigEndian.AppendUint64(nil, uint64(time.Now().UnixNano())))
		if errors.Is(err, net.ErrClosed) {
			return
		}
		time.Sleep(flipPeriod)
	}
}

func hear(ctx context.Context, c net.Conn, port string, seen chan<- flip) {
	buf := make([]byte, 64)
	for {
		n, err := c.Read(buf)
		if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrClosed) {
			return
		}
		if err != nil || n != 8 {
			continue
		}
		select {
		case seen <- flip{port, time.Unix(0, int64(binary.BigEndian.Uint64(buf)))}:
		case <-ctx.Done():
			return
		}
	}
}
