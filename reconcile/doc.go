// Package reconcile brings things to a desired state, again and again: it finds
// differences, orders effects, coalesces changes and backs off from failures.
//
// It knows no domain: no addresses, no policy, no kernel, no etcd. What is
// desired and how to get there is its callers' business.
package reconcile
