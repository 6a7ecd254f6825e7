package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/plexusmesh/plexus/agent/localpolicy"
	"github.com/plexusmesh/plexus/kvstore/schema"
)

func TestOwnFilesJoinTheMesh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newMachine(t)
		file := filepath.Join(c.config.Policy.Dir, "own.yaml")
		write := func(text string) {
			t.Helper()
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write(opening("own", 82))
		c.apply(t, schema.PolicyRevision{Revision: 1}, 80, 0)
		_, stop := c.start(t)
		settled(soon)
		wantOpen(t, c, "with a file", 80, 82)
		stop()

		write("kind: [")
		c.etcd.SetDown(true)
		m, stop := c.start(t)
		settled(restoreAfter + soon)
		wantOpen(t, c, "with a broken file after a restart", 80, 82)
		if w := warned(m, "local-policy-refused"); w == nil || w.Severity != "error" || !strings.Contains(w.Text, file+":1") {
			t.Errorf("status says %v", w)
		}
		stop()
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		c.start(t)
		settled(restoreAfter + soon)
		wantOpen(t, c, "without the file", 80)
	})
}

// What is accepted while the daemon runs is there for the next run too, which may
// find the file broken.
func TestOwnFilesOfThisRunAreKeptForTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newMachine(t)
		c.apply(t, schema.PolicyRevision{Revision: 1}, 80, 0)
		m, stop := c.start(t)
		settled(soon)
		found := map[string]localpolicy.Content{"own.yaml": {Data: []byte(opening("own", 82))}}
		m.setOwn(localpolicy.Merge(c.config.Policy.Dir, nil, found))
		settled(soon)
		wantOpen(t, c, "with a new file", 80, 82)
		stop()
		if err := os.WriteFile(filepath.Join(c.config.Policy.Dir, "own.yaml"), []byte("kind: ["), 0o600); err != nil {
			t.Fatal(err)
		}
		c.start(t)
		settled(restoreAfter + soon)
		wantOpen(t, c, "with a broken file after a restart", 80, 82)
	})
}
