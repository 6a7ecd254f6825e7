package policy

import (
	"runtime"
	"slices"
	"sync"
)

// CompileAll returns what [Compile] returns for each of subjects, in their
// order. It uses every processor, and each looks a selector up once for all of
// its subjects. Equal subjects share their verdicts, which nobody may change.
func CompileAll(policies []Policy, subjects []Subject, world World) []Verdicts {
	out := make([]Verdicts, len(subjects))
	first := firstEqual(subjects)
	groups, peers := cidrGroups(policies), newIndex(world.Labels)
	next := make(chan int)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		shared := peers.share()
		wg.Go(func() {
			for i := range next {
				once := Compiler{effective: new(memo)}
				out[i] = once.compile(policies, news{compiler: compiler{subject: subjects[i], world: world, groups: groups, peers: shared}})
			}
		})
	}
	for i, f := range first {
		if i == f {
			next <- i
		}
	}
	close(next)
	wg.Wait()
	for i, f := range first {
		out[i] = out[f]
	}
	return out
}

// firstEqual returns for each subject the place of the first that equals it.
func firstEqual(subjects []Subject) []int {
	out := make([]int, len(subjects))
	byLabels := make(map[string][]int)
	for i, s := range subjects {
		key := s.Labels.String()
		same := slices.IndexFunc(byLabels[key], func(j int) bool { return subjects[j].equal(s) })
		if same >= 0 {
			out[i] = byLabels[key][same]
			continue
		}
		out[i] = i
		byLabels[key] = append(byLabels[key], i)
	}
	return out
}
