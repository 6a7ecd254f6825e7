package embedded

import (
	"context"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

// streams knows the open streams (watches, lease renewals) of each user, so
// that they can be ended.
type streams struct {
	mu   sync.Mutex
	open map[*stream]struct{}
}

// stream is one open stream.
type stream struct {
	grpc.ServerStream
	ctx    context.Context
	cancel context.CancelFunc
	user   string
}

// Context implements grpc.ServerStream.
func (s *stream) Context() context.Context { return s.ctx }

func newStreams() *streams { return &streams{open: make(map[*stream]struct{})} }

// serverOptions hooks the streams into etcd's gRPC server.
func (s *streams) serverOptions() []grpc.ServerOption {
	return []grpc.ServerOption{grpc.ChainStreamInterceptor(s.intercept)}
}

// intercept runs one stream under a context of ours. The handler ends when
// that context does: etcd's watch and lease servers wait for it.
func (s *streams) intercept(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	ctx, cancel := context.WithCancel(ss.Context())
	st := &stream{ServerStream: ss, ctx: ctx, cancel: cancel, user: userOf(ctx)}
	s.add(st)
	defer s.remove(st)
	return handler(srv, st)
}

func (s *streams) add(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[st] = struct{}{}
}

func (s *streams) remove(st *stream) {
	st.cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, st)
}

// closeUser ends the streams of one user.
func (s *streams) closeUser(user string) {
	s.closeIf(func(st *stream) bool { return st.user == user })
}

// closeAll ends all streams, for which etcd's own stop would wait.
func (s *streams) closeAll() { s.closeIf(func(*stream) bool { return true }) }

func (s *streams) closeIf(match func(*stream) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for st := range s.open {
		if match(st) {
			st.cancel()
		}
	}
}

// userOf returns the common name of the client's certificate.
func userOf(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return ""
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 || len(info.State.VerifiedChains[0]) == 0 {
		return ""
	}
	return info.State.VerifiedChains[0][0].Subject.CommonName
}
