package identity_test

import (
	"testing"

	"github.com/plexusmesh/plexus/identity"
)

func TestSelectorMatches(t *testing.T) {
	ls := identity.NewLabels(identity.Label{Source: "k8s", Key: "app", Value: "db"}, identity.Label{Source: "reserved", Key: "host"})
	req := func(key string, op identity.Operator, values ...string) identity.Selector {
		source, key := identity.SplitKey(key)
		return identity.Selector{{Source: source, Key: key, Operator: op, Values: values}}
	}
	for name, tt := range map[string]struct {
		s    identity.Selector
		want bool
	}{
		"empty selects all":                    {nil, true},
		"In, any source":                       {req("app", identity.In, "db", "web"), true},
		"In, right source":                     {req("k8s:app", identity.In, "db"), true},
		"In, wrong source":                     {req("reserved:app", identity.In, "db"), false},
		"In, wrong value":                      {req("app", identity.In, "web"), false},
		"In, absent key":                       {req("tier", identity.In, ""), false},
		"NotIn, other value":                   {req("app", identity.NotIn, "web"), true},
		"NotIn, that value":                    {req("app", identity.NotIn, "db"), false},
		"NotIn, absent key":                    {req("tier", identity.NotIn, "a"), true},
		"Exists":                               {req("app", identity.Exists), true},
		"Exists, absent":                       {req("tier", identity.Exists), false},
		"DoesNotExist":                         {req("tier", identity.DoesNotExist), true},
		"DoesNotExist, present":                {req("any:app", identity.DoesNotExist), false},
		"reserved label has an empty value":    {req("reserved:host", identity.In, ""), true},
		"unknown operator matches nothing":     {req("app", "Matches", "db"), false},
		"all requirements must hold":           {append(req("app", identity.In, "db"), req("tier", identity.Exists)...), false},
		"all requirements hold":                {append(req("app", identity.In, "db"), req("tier", identity.DoesNotExist)...), true},
		"an unknown prefix belongs to the key": {req("container:app", identity.Exists), false},
	} {
		if got := tt.s.Matches(ls); got != tt.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func TestAnySourceMeetsEachSource(t *testing.T) {
	ls := identity.NewLabels(identity.Label{Source: "k8s", Key: "app", Value: "db"}, identity.Label{Source: "cidr", Key: "app", Value: "x"})
	app := identity.Requirement{Source: identity.SourceAny, Key: "app", Operator: identity.In, Values: []string{"db"}}
	if !(identity.Selector{app}).Matches(ls) {
		t.Error("any:app=db does not match k8s:app=db beside cidr:app=x")
	}
	app.Operator = identity.NotIn
	if (identity.Selector{app}).Matches(ls) {
		t.Error("any:app NotIn [db] matches k8s:app=db")
	}
}

func TestSplitKey(t *testing.T) {
	for in, want := range map[string][2]string{
		"app": {"any", "app"}, "any:app": {"any", "app"}, "k8s:app": {"k8s", "app"}, "reserved:host": {"reserved", "host"},
		"cidr:10.0.0.0/8": {"cidr", "10.0.0.0/8"}, "other:app": {"any", "other:app"}, "": {"any", ""}, "k8s:": {"k8s", ""},
	} {
		if source, key := identity.SplitKey(in); source != want[0] || key != want[1] {
			t.Errorf("SplitKey(%q) = %q, %q, want %q", in, source, key, want)
		}
	}
}

func TestRequirementValidate(t *testing.T) {
	for _, tt := range []struct {
		r  identity.Requirement
		ok bool
	}{
		{identity.Requirement{Key: "a", Operator: identity.In, Values: []string{"x"}}, true},
		{identity.Requirement{Key: "a", Operator: identity.Exists}, true},
		{identity.Requirement{Key: "a", Operator: identity.In}, false},
		{identity.Requirement{Key: "a", Operator: identity.NotIn}, false},
		{identity.Requirement{Key: "a", Operator: identity.Exists, Values: []string{"x"}}, false},
		{identity.Requirement{Key: "a", Operator: "in", Values: []string{"x"}}, false},
		{identity.Requirement{Operator: identity.Exists}, false},
	} {
		if err := tt.r.Validate(); (err == nil) != tt.ok {
			t.Errorf("Validate(%+v) = %v", tt.r, err)
		}
	}
}
