package api

import (
	"context"
	"net/http"
)

// DefaultSocket is where plexusd answers unless it is told otherwise.
const DefaultSocket = "/run/plexus/plexusd.sock"

// Limits in bytes on what a request may carry.
const (
	// MaxPolicyBytes bounds the documents of one apply taken together.
	MaxPolicyBytes = 2 << 20
	// maxApplyBody leaves room for base64 and names around MaxPolicyBytes.
	maxApplyBody = 3 << 20
	// maxBody bounds every other request; a token with labels is far below it.
	maxBody = 64 << 10
)

const (
	pathStatus     = "/v1/status"
	pathInit       = "/v1/init"
	pathJoin       = "/v1/join"
	pathLeave      = "/v1/leave"
	pathNodes      = "/v1/nodes"
	pathIdentities = "/v1/identities"
	pathTokens     = "/v1/tokens"
	pathPolicies   = "/v1/policies"
	pathReview     = pathPolicies + "/review"
	pathConfirm    = pathPolicies + "/confirm"
	pathRollback   = pathPolicies + "/rollback"
	pathHistory    = pathPolicies + "/history"
	pathFailsafe   = "/v1/failsafe"
	pathDisarm     = "/v1/disarm"
	pathArm        = "/v1/arm"
	pathExplain    = "/v1/explain"
	pathIPCache    = "/v1/bpf/ipcache"
	pathPolicyMap  = "/v1/bpf/policy"
	pathFlows      = "/v1/bpf/ct"
	pathCounters   = "/v1/bpf/metrics"
	pathTables     = "/v1/bpf/tables"
	pathObserve    = "/v1/observe"
)

// routes maps every call of the API to the Backend.
func (s *Server) routes() http.Handler {
	b, mux := s.backend, http.NewServeMux()
	mux.Handle("GET "+pathStatus, get(b.Status))
	mux.Handle("POST "+pathInit, post(maxBody, b.Init))
	mux.Handle("POST "+pathJoin, post(maxBody, b.Join))
	mux.Handle("POST "+pathLeave, post(maxBody, noAnswer(b.Leave)))
	mux.Handle("GET "+pathNodes, get(b.Nodes))
	mux.Handle("DELETE "+pathNodes+"/{id}", remove(noAnswer(b.RemoveNode)))
	mux.Handle("GET "+pathIdentities, get(b.Identities))
	mux.Handle("POST "+pathTokens, post(maxBody, b.CreateToken))
	mux.Handle("GET "+pathTokens, get(b.Tokens))
	mux.Handle("DELETE "+pathTokens+"/{id}", remove(noAnswer(b.RevokeToken)))
	s.policyRoutes(mux)
	mux.Handle("GET "+pathIPCache, get(b.IPCache))
	mux.Handle("GET "+pathPolicyMap, get(b.PolicyMap))
	mux.Handle("GET "+pathFlows, get(b.Flows))
	mux.Handle("GET "+pathCounters, get(b.Counters))
	mux.Handle("GET "+pathTables, get(b.Tables))
	mux.HandleFunc("POST "+pathObserve, s.observe)
	mux.HandleFunc("/", notFound)
	return mux
}

// policyRoutes are those of the safe way to change policy.
func (s *Server) policyRoutes(mux *http.ServeMux) {
	b := s.backend
	mux.Handle("GET "+pathPolicies, get(b.Policies))
	mux.Handle("POST "+pathPolicies, post(maxApplyBody, s.apply))
	mux.Handle("POST "+pathReview, post(maxApplyBody, s.review))
	mux.Handle("POST "+pathConfirm, post(maxBody, b.ConfirmPolicies))
	mux.Handle("POST "+pathRollback, post(maxBody, b.RollbackPolicies))
	mux.Handle("GET "+pathHistory, get(b.PolicyHistory))
	mux.Handle("GET "+pathFailsafe, get(b.Pinholes))
	mux.Handle("POST "+pathDisarm, post(maxBody, b.Disarm))
	mux.Handle("POST "+pathArm, post(maxBody, func(ctx context.Context, _ empty) (Armed, error) { return b.Arm(ctx) }))
	mux.Handle("POST "+pathExplain, post(maxApplyBody, s.explain))
}

func (s *Server) explain(ctx context.Context, r ExplainRequest) (Explanation, error) {
	if err := bounded(r.Files); err != nil {
		return Explanation{}, err
	}
	return s.backend.Explain(ctx, r)
}

func (s *Server) review(ctx context.Context, r ReviewRequest) (Review, error) {
	if err := bounded(r.Files); err != nil {
		return Review{}, err
	}
	return s.backend.ReviewPolicies(ctx, r)
}

func (s *Server) apply(ctx context.Context, r ApplyRequest) (ApplyResult, error) {
	if err := bounded(r.Files); err != nil {
		return ApplyResult{}, err
	}
	if w := r.ConfirmWithin; w != 0 && (w < MinConfirmWithin || w > MaxConfirmWithin) {
		return ApplyResult{}, Errorf(CodeInvalid, "apply policy on trial for %v: use 10s to 1h", w)
	}
	return s.backend.ApplyPolicies(ctx, r)
}

// bounded bounds the documents, which the limit on the body does only roughly.
func bounded(files []PolicyFile) error {
	size := 0
	for _, f := range files {
		size += len(f.Data)
	}
	if size > MaxPolicyBytes {
		return Errorf(CodeTooLarge, "read policy documents of %d bytes: the limit is %d bytes; apply them in parts", size, MaxPolicyBytes)
	}
	return nil
}

func notFound(w http.ResponseWriter, r *http.Request) {
	fail(w, Errorf(CodeNotFound, "call %s %s: this plexusd does not know it; use a plexus of the same version",
		r.Method, r.URL.Path))
}
