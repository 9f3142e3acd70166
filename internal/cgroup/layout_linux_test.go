package cgroup

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/testenv"
)

func fake(t *testing.T, files map[string]string) string {
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// enable, on files that stand for a control group.
func TestEnable(t *testing.T) {
	for _, test := range []struct {
		name  string
		files map[string]string
		want  string // what subtree_control has afterwards
		err   error
	}{
		{
			"root",
			map[string]string{"cgroup.subtree_control": "cpu\n", "cgroup.controllers": "cpuset cpu io memory pids\n", "cgroup.procs": "1\n2\n"},
			"+io +memory +pids", nil,
		},
		{
			"all there",
			map[string]string{"cgroup.subtree_control": "cpu io memory pids\n"},
			"cpu io memory pids\n", nil,
		},
		{
			"not to be had",
			map[string]string{"cgroup.subtree_control": "cpu\n", "cgroup.controllers": "cpu\n"},
			"cpu\n", nil,
		},
		{
			"inner group",
			map[string]string{"cgroup.subtree_control": "", "cgroup.controllers": "memory\n", "cgroup.type": "domain\n", "cgroup.procs": ""},
			"+memory", nil,
		},
		{
			// Written to, it would become the root of a threaded subtree.
			"root of a namespace",
			map[string]string{"cgroup.subtree_control": "", "cgroup.controllers": "cpu pids\n", "cgroup.type": "domain\n", "cgroup.procs": "1\n"},
			"", unix.EBUSY,
		},
		{"gone", nil, "", fs.ErrNotExist},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := fake(t, test.files)
			if err := enable(dir, base[:]); !errors.Is(err, test.err) {
				t.Error(err)
			}
			// A file is overwritten from its start, and not made shorter.
			if got, _ := os.ReadFile(dir + "/cgroup.subtree_control"); !strings.HasPrefix(string(got), test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestFigures(t *testing.T) {
	r, w := sumV1([]byte("8:0 Read 4096\n8:0 Write 12\n8:0 Sync 1\n8:0 Total 4109\n259:0 Read 4\nTotal 4113\n"))
	if r != 4100 || w != 12 {
		t.Error(r, w)
	}
	if got, want := sumV2([]byte("8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n\n253:0 rbytes=10 cost.usage=7\n")), (IO{11, 2, 3, 4}); got != want {
		t.Error(got)
	}
	if got := valueOf([]byte("oom_kill_disable 0\nunder_oom 0\noom_kill 7\n"), "oom_kill"); got != 7 {
		t.Error(got)
	}
	for _, s := range []string{"max\n", "", "-4096\n"} {
		if got := number([]byte(s)); got != 0 {
			t.Errorf("%q: %d", s, got)
		}
	}
	m := Memory{Usage: 10}
	if m.setWorkingSet(11); m.WorkingSet != 0 {
		t.Error(m)
	}
}

func TestLayout(t *testing.T) {
	testenv.NeedRoot(t)
	l, err := found()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", *l)
	seen := map[string]bool{}
	for _, h := range l.v1 {
		for _, c := range h.controllers {
			if seen[c] {
				t.Errorf("%s: twice", c)
			}
			seen[c] = true
			if slices.Contains(l.v2Controllers, c) {
				t.Errorf("%s: in v1 and in v2", c)
			}
		}
	}
}
