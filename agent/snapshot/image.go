package snapshot

import (
	"bytes"
	"compress/gzip"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"time"
)

// MaxSize is how many bytes a snapshot may have, unpacked: about four times what
// a mesh of 65,536 hosts needs.
const MaxSize = 512 << 20

// Errors of Decode.
var (
	ErrDamaged = errors.New("it is damaged")
	ErrForeign = errors.New("it is of another host or mesh")
)

// Values are bytes by name.
type Values map[string][]byte

// Image is what a host knew at one moment.
type Image struct {
	Saved   time.Time         `json:"saved"`
	Sources map[string]Values `json:"sources"` // what each source had delivered, by its name; all of it
	Files   Values            `json:"files"`   // the host's own policy files, by name, as last accepted
}

// Owner is the host that a snapshot is of.
type Owner struct {
	Cluster string
	Node    string
	Key     *ecdsa.PrivateKey // of the host's certificate
}

// format names the layout that Encode writes: a line of JSON, and a gzip stream
// that holds an Image as JSON.
const format = "plexus-snapshot/1"

// header is the first line.
type header struct {
	Format    string `json:"format"`
	Cluster   string `json:"cluster"`
	Node      string `json:"node"`
	Signature []byte `json:"signature"` // ECDSA, ASN.1, of digest
}

// digest is what the signature covers.
func (h header) digest(body []byte) []byte {
	sum := sha256.New()
	fmt.Fprintf(sum, "%s\x00%s\x00%s\x00", h.Format, h.Cluster, h.Node)
	sum.Write(body)
	return sum.Sum(nil)
}

// Encode renders img as a snapshot of o.
func Encode(img Image, o Owner) ([]byte, error) {
	body, err := pack(img)
	if err != nil {
		return nil, fmt.Errorf("encode snapshot: %w", err)
	}
	return seal(body, o)
}

// seal signs body and puts the header before it.
func seal(body []byte, o Owner) (data []byte, err error) {
	h := header{Format: format, Cluster: o.Cluster, Node: o.Node}
	if h.Signature, err = ecdsa.SignASN1(rand.Reader, o.Key, h.digest(body)); err != nil {
		return nil, fmt.Errorf("sign snapshot: %w", err)
	}
	line, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("encode snapshot: %w", err)
	}
	return bytes.Join([][]byte{line, body}, []byte{'\n'}), nil
}

func pack(img Image) ([]byte, error) {
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(json.NewEncoder(z).Encode(img), z.Close()); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// Decode reads a snapshot of o. The error is [ErrDamaged] or [ErrForeign].
func Decode(data []byte, o Owner) (Image, error) {
	line, body, _ := bytes.Cut(data, []byte{'\n'})
	var h header
	if err := json.Unmarshal(line, &h); err != nil {
		return Image{}, fmt.Errorf("read snapshot: %w: %w", ErrDamaged, err)
	}
	switch {
	case h.Format != format:
		return Image{}, fmt.Errorf("read snapshot: %w: its format is %q, and this plexusd knows %q", ErrDamaged, h.Format, format)
	case h.Cluster != o.Cluster || h.Node != o.Node:
		return Image{}, fmt.Errorf("read snapshot: %w: it is of host %q of mesh %q", ErrForeign, h.Node, h.Cluster)
	case !ecdsa.VerifyASN1(&o.Key.PublicKey, h.digest(body), h.Signature):
		return Image{}, fmt.Errorf("read snapshot: %w, or signed with another key than this host's", ErrDamaged)
	}
	img, err := unpack(body)
	if err != nil {
		return Image{}, fmt.Errorf("read snapshot: %w: %w", ErrDamaged, err)
	}
	return img, nil
}

func unpack(body []byte) (Image, error) {
	z, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return Image{}, err
	}
	text, err := io.ReadAll(io.LimitReader(z, MaxSize+1))
	if err != nil {
		return Image{}, err
	}
	if len(text) > MaxSize {
		return Image{}, fmt.Errorf("it has more than %d bytes", MaxSize)
	}
	var img Image
	if err := json.Unmarshal(text, &img); err != nil {
		return Image{}, err
	}
	return img, nil
}

// overlay returns earlier with what is newer over it.
func overlay(earlier, newer Values) Values {
	out := make(Values, len(earlier)+len(newer))
	maps.Copy(out, earlier)
	maps.Copy(out, newer)
	return out
}
