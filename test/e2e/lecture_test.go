package e2e

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// tellEvery is so seldom that everything before has arrived: what a program says
// then is its kernel's first packet after a silence.
const tellEvery = 200 * time.Millisecond

// lecture is the role of a server that speaks unasked, as a shell does in which
// something runs.
func lecture(port string, done <-chan struct{}) error {
	l, err := net.Listen("tcp", ":"+port)
	if err != nil {
		return err
	}
	defer l.Close()
	fmt.Println("ready")
	go func() {
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			go tell(c)
		}
	}()
	<-done
	return nil
}

func tell(c net.Conn) {
	defer c.Close()
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	for n := 0; ; n++ {
		if _, err := c.Write(message(n)); err != nil {
			return // the listener has gone, or was thought to have
		}
		<-tick.C
	}
}

// hear is the role of its listener. It reports what arrived.
func hear(addr string, done <-chan struct{}) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	go func() { // ends the read
		<-done
		_ = c.SetReadDeadline(time.Now())
	}()
	rep := listen(c, func() { fmt.Println("ready") })
	return json.NewEncoder(os.Stdout).Encode(rep)
}

// listen reads messages until there are no more, and calls begun after the first.
func listen(c net.Conn, begun func()) (rep report) {
	buf := make([]byte, messageLen)
	for {
		_, err := io.ReadFull(c, buf)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return rep
		case err != nil:
			rep.Err = err.Error()
			return rep
		}
		for n := int(binary.BigEndian.Uint64(buf)); rep.Sent < n; rep.Sent++ {
			rep.Missing = append(rep.Missing, rep.Sent)
		}
		if rep.Sent++; rep.Sent == 1 {
			begun()
		}
	}
}
