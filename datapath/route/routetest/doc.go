// Package routetest stands in for the routing tables of a kernel in tests. It
// keeps state as rtnetlink does, records calls, and can fail the next one. It
// forwards nothing.
package routetest
