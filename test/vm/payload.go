package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/plexusmesh/plexus/test/vm/report"
)

// jobTimeout bounds one package's tests in an emulated machine.
const jobTimeout = 12 * time.Minute

// loader is the package whose loadTest loads every program with every setting
// and tells what the verifier looked at.
const loader, loadTest = "datapath/loader", "TestEveryProgramLoads"

// packages are those with tests of real kernel objects: what the datapath and the
// tunnel are made of first, and two whole hosts last.
var packages = []string{
	loader, "datapath/bpfmap", "datapath/device", "datapath/route", "datapath/socket",
	"encryption/wg", "test/vm/mesh",
}

// payload is what every guest gets besides its release: the tests, the programs
// under test, and the guest's first process.
type payload struct {
	dir  string // of what was built
	jobs []report.Job
}

// newPayload compiles everything into dir.
func newPayload(ctx context.Context, dir string, packages []string, run string) (*payload, error) {
	p := &payload{dir: dir}
	var tests []string
	for _, name := range packages {
		tests = append(tests, "./"+name)
		p.jobs = append(p.jobs, job(name, run))
	}
	for _, args := range [][]string{
		append([]string{"test", "-c", "-trimpath", "-ldflags=-s -w", "-o", dir + "/"}, tests...),
		{"build", "-trimpath", "-ldflags=-s -w", "-o", dir + "/", "./cmd/plexusd", "./cmd/plexus"},
		{"build", "-trimpath", "-o", filepath.Join(dir, "init"), "./test/vm/guest"},
	} {
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("run go %s: %w\n%s", strings.Join(args, " "), err, out)
		}
	}
	return p, nil
}

// elsewhere are tests that make test-kernel alone runs: one is about the tree; one
// sends a million packets, for which an emulated processor takes minutes; and one
// loads the programs of an older build, for which an emulated 5.10 takes longer, and
// counts what TCP sends again, as it does on a processor that is late.
const elsewhere = "^(TestPageNamesTests|TestFloodsLeaveOpenFlows|TestUpgradeUnderTraffic)$"

// job runs a package's tests where its files are.
func job(name, run string) report.Job {
	argv := []string{"./" + path.Base(name) + ".test", "-test.v=test2json", "-test.paniconexit0", "-test.timeout=" + jobTimeout.String(), "-test.skip=" + elsewhere}
	if run != "" {
		argv = append(argv, "-test.run="+run)
	}
	return report.Job{Name: name, Dir: "/src/" + name, Argv: argv, Timeout: jobTimeout + time.Minute}
}

// write adds everything to an archive.
func (p *payload) write(out *cpioWriter) error {
	jobs, err := json.Marshal(p.jobs)
	if err != nil {
		return err
	}
	errs := []error{
		out.bytes(strings.TrimPrefix(report.JobsFile, "/"), string(jobs)),
		p.add(out, "init", "init"), p.add(out, "plexusd", "usr/local/bin/plexusd"), p.add(out, "plexus", "usr/local/bin/plexus"),
		addTree(out, "docs", "src/docs"), // what tests see is compared with it
	}
	for _, j := range p.jobs {
		binary := path.Base(j.Name) + ".test"
		errs = append(errs, p.add(out, binary, path.Join("src", j.Name, binary)), addTree(out, filepath.Join(j.Name, "testdata"), path.Join("src", j.Name, "testdata")))
	}
	return errors.Join(append(errs, out.close())...)
}

func (p *payload) add(out *cpioWriter, from, to string) error {
	return addFile(out, filepath.Join(p.dir, from), to)
}

func addFile(out *cpioWriter, from, to string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return out.file(to, int64(info.Mode().Perm()), info.Size(), f)
}

// addTree adds the files of a directory, if it is there.
func addTree(out *cpioWriter, from, to string) error {
	err := filepath.WalkDir(from, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(from, name)
		if err != nil {
			return err
		}
		return addFile(out, name, path.Join(to, filepath.ToSlash(rel)))
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
