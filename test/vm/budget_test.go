package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCompare(t *testing.T) {
	budget := map[string]int{"a": 1000, "b": 1000}
	for _, tt := range []struct {
		name     string
		measured map[string]int
		words    string // of the error; none if empty
	}{
		{"the same", map[string]int{"a": 1000, "b": 1000}, ""},
		{"smaller", map[string]int{"a": 1, "b": 1000}, ""},
		{"grown by the tolerance", map[string]int{"a": 1100, "b": 1000}, ""},
		{"grown by more", map[string]int{"a": 1101, "b": 1000}, "a on 5.10: 1101 verified instructions are +10.1 % of 1000"},
		{"a new program", map[string]int{"a": 1000, "b": 1000, "c": 1}, "c on 5.10 is not in test/vm/budget.yaml"},
		{"a program that is gone", map[string]int{"a": 1000}, "5.10 has loaded no such program"},
		{"nothing was measured", nil, "a is in test/vm/budget.yaml"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := compare("5.10", budget, tt.measured)
			if (err == nil) != (tt.words == "") || err != nil && !strings.Contains(err.Error(), tt.words) {
				t.Errorf("got %v, want %q", err, tt.words)
			}
		})
	}
}

// TestBudgetRoundTrip updates one kernel and keeps the other.
func TestBudgetRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "budget.yaml")
	before := counts{"5.10": {"a": 1, "gone": 2}, "6.1": {"a": 3}}
	if err := writeBudget(path, before, counts{"5.10": {"a": 4}}); err != nil {
		t.Fatal(err)
	}
	got, err := readBudget(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(counts{"5.10": {"a": 4}, "6.1": {"a": 3}}, got); diff != "" {
		t.Errorf("budget (-want +got):\n%s", diff)
	}
}

// TestBudgetIsOfKernels keeps numbers of kernels that nobody boots out of the tree.
func TestBudgetIsOfKernels(t *testing.T) {
	budget, err := readBudget("budget.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for kernel := range budget {
		if _, err := choose(kernel, releases, func(r release) string { return r.kernel }); err != nil {
			t.Errorf("budget of kernel %s: %v", kernel, err)
		}
	}
}

func TestPrintCounts(t *testing.T) {
	var out strings.Builder
	err := printCounts(&out, []string{"5.10", "6.1"}, counts{"5.10": {"a": 100}}, counts{"5.10": {"a": 105}, "6.1": {"a": 7}})
	want := "" +
		"  verified instructions          5.10      6.1\n" +
		"                      a  105 (+5.0 %)  7 (new)\n"
	if diff := cmp.Diff(want, out.String()); diff != "" || err != nil {
		t.Errorf("table, %v (-want +got):\n%s", err, diff)
	}
}
