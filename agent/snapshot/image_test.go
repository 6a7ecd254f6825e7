package snapshot

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func newOwner(t testing.TB) Owner {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return Owner{Cluster: "east", Node: "web-1", Key: key}
}

func sample() Image {
	return Image{
		Saved: time.Date(2026, 3, 1, 12, 0, 0, 5, time.UTC),
		Sources: map[string]Values{
			"nodes":    {"east/web-1": []byte(`{"Name":"web-1"}`), "odd\x00name": {0, 0xff, '\n'}},
			"policies": {},
		},
		Files: Values{"db.yaml": []byte("kind: CiliumNetworkPolicy\n")},
	}
}

func TestAnImageIsReadAsItWasWritten(t *testing.T) {
	o := newOwner(t)
	data, err := Encode(sample(), o)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(data, o)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sample(), got); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
}

func TestAnImageOfSomebodyElseIsForeign(t *testing.T) {
	o := newOwner(t)
	data, err := Encode(sample(), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, reader := range []Owner{{Cluster: "west", Node: "web-1", Key: o.Key}, {Cluster: "east", Node: "web-2", Key: o.Key}} {
		if _, err := Decode(data, reader); !errors.Is(err, ErrForeign) {
			t.Errorf("read by %s of %s: %v, want ErrForeign", reader.Node, reader.Cluster, err)
		}
	}
	if _, err := Decode(data, newOwner(t)); !errors.Is(err, ErrDamaged) {
		t.Errorf("signed by another host of that name: %v, want it refused", err)
	}
}

// Nothing but what was written is ever read, wherever the damage is. (The last
// character of a base64 text has bits that say nothing.)
func TestADamagedImageIsRefused(t *testing.T) {
	o := newOwner(t)
	whole, err := Encode(sample(), o)
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		data := bytes.Clone(whole)
		data[i] ^= 1
		if img, err := Decode(data, o); err == nil && !cmp.Equal(sample(), img) {
			t.Fatalf("byte %d is flipped, and the image is read as %v", i, img)
		}
	}
	for n := range whole {
		if _, err := Decode(whole[:n], o); err == nil {
			t.Fatalf("cut after %d bytes, and the image is read", n)
		}
	}
}

// Whatever bytes there are, signed or not, nothing is read of them that was not
// written, and nothing breaks.
func FuzzDecode(f *testing.F) {
	o := newOwner(f)
	body, err := pack(sample())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body)
	f.Add([]byte("{}\n"))
	f.Fuzz(func(t *testing.T, body []byte) {
		if _, err := Decode(body, o); err == nil {
			t.Error("bytes without our signature are read")
		}
		signed, err := seal(body, o)
		if err != nil {
			t.Fatal(err)
		}
		img, err := Decode(signed, o)
		if err != nil {
			return
		}
		again, err := Encode(img, o)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Decode(again, o); err != nil || !cmp.Equal(img, got) {
			t.Errorf("%v is read back as %v, %v", img, got, err)
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	o := newOwner(b)
	img := Image{Sources: map[string]Values{"nodes": {}, "endpoints": {}}}
	for i := range 5000 {
		img.Sources["nodes"][fmt.Sprintf("east/host-%d", i)] = bytes.Repeat([]byte(fmt.Sprintf("%08x", i*7919)), 100)
		for _, f := range []string{"10.210.%d.%d", "fd00::%x:%x"} {
			img.Sources["endpoints"][fmt.Sprintf(f, i/250, i%250)] = bytes.Repeat([]byte(fmt.Sprintf("%08x", i*104729)), 30)
		}
	}
	for b.Loop() {
		data, err := Encode(img, o)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(len(data)), "bytes")
	}
}
