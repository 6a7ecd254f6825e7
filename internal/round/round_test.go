package round

import "testing"

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestARoundUnderWayCountsForNobodyWhoAsksMeanwhile(t *testing.T) {
	var r Round
	r.Begin()() // nobody waits
	early := r.Ended()
	end := r.Begin()
	late := r.Ended()
	if isClosed(early) || isClosed(late) {
		t.Fatal("a round has ended before its end")
	}
	end()
	if !isClosed(early) || isClosed(late) {
		t.Errorf("after the first round: who asked before it knows %v, who asked during it %v; want true, false", isClosed(early), isClosed(late))
	}
	r.Begin()()
	if !isClosed(late) {
		t.Error("after the second round, who asked during the first does not know")
	}
}
