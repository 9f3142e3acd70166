// Package internal holds what podbox does not promise to anybody. This test holds
// the shape of the whole module, which ARCHITECTURE.md explains.
package internal

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

const module = "github.com/podbox/podbox"

// The arrow of imports. A package may import those further down, never one of
// its own rank or above: what lies below can be read, tested and embedded without
// what lies above, and no two packages can grow into one.
var arrow = [][]string{
	{"cmd", "examples", "hack", "docs"}, // of docs there are tests only
	{"kube"},
	{"supervisor"},
	{"launcher"},
	{"sandbox"},
	{"netns", "ipcns", "volumes", "image"},
	{"internal"},
}

// A rule keeps something to some places.
type rule struct {
	what   []string // import paths, or package.Name of what is used
	places []string // files, or directories with all below them
	reason string
}

var rules = []rule{{
	what: []string{
		"flag", "text/tabwriter", "text/template",
		"github.com/spf13/cobra", "github.com/spf13/pflag", "golang.org/x/term",
		"github.com/goccy/go-yaml", "github.com/docker/go-units",
	},
	places: []string{"cmd", "examples", "hack"},
	reason: "a command line, its signals and its forms of output belong to the program, not to those who embed us",
}, {
	what:   []string{"os/signal"},
	places: []string{"cmd", "examples", "hack", "internal/testenv"},
	reason: "what a signal means is for the embedding program to say",
}, {
	what: []string{
		"fmt.Print", "fmt.Printf", "fmt.Println", "os.Stdin", "os.Stdout", "os.Stderr", "log",
		"builtin.print", "builtin.println",
	},
	places: []string{"cmd", "examples", "hack", "internal/testenv"},
	reason: "the library says what it has to say by errors and to the logger that it is given",
}, {
	what:   []string{"os.Exit", "log.Fatal", "syscall.Exit"},
	places: []string{"cmd", "examples", "hack", "internal/testenv"},
	reason: "to end the process is for the program that embeds us to decide; it also skips every undo",
}, {
	what:   []string{"os.Getenv", "os.LookupEnv", "os.Environ", "os.Setenv", "os.Unsetenv", "os.Chdir"},
	places: []string{"cmd", "examples", "hack", "internal/testenv"},
	reason: "the environment and the working directory are the embedding program's; options are arguments",
}, {
	what:   []string{"unix.Setns", "unix.Unshare", "syscall.Unshare"},
	places: []string{"internal/nsthread", "internal/testenv", "examples", "hack"},
	reason: "one package changes what a thread is, and throws the thread away afterwards",
}, {
	what:   []string{"runtime.LockOSThread", "runtime.UnlockOSThread"},
	places: []string{"internal/nsthread", "internal/spawn", "internal/testenv", "cmd", "examples", "hack"},
	reason: "a locked thread is one that is about to be changed: see internal/nsthread",
}, {
	what:   []string{"os/exec", "syscall.ForkExec", "syscall.StartProcess", "os.StartProcess"},
	places: []string{"examples", "hack", "internal/testenv", "launcher/other_linux.go", "cmd/podbox/container.go", "cmd/podbox/runimage.go"},
	reason: "podbox runs no helper programs but another OCI runtime that is asked for, and podbox-kube to fetch images, and starts those of the user by internal/spawn",
}, {
	what:   []string{"github.com/vishvananda/netlink", "github.com/vishvananda/netlink/nl"},
	places: []string{"netns", "internal/testenv"},
	reason: "netns is what the others know of links, addresses and routes",
}, {
	what:   []string{"github.com/google/nftables", "github.com/google/nftables/expr", "github.com/google/nftables/binaryutil", "github.com/mdlayher/netlink"},
	places: []string{"netns", "internal/testenv"},
	reason: "there is one table, and one package that knows what is in it",
}, {
	what:   []string{"github.com/containernetworking/cni/..."},
	places: []string{"netns/cni"},
	reason: "one package knows how CNI plugins are run, and what is believed of what they say",
}, {
	what: []string{
		"go.podman.io/image/v5/pkg/sysregistriesv2", "go.podman.io/image/v5/pkg/docker/config", "go.podman.io/image/v5/docker/reference",
		"github.com/google/go-containerregistry/pkg/v1/remote", "github.com/google/go-containerregistry/pkg/name",
	},
	places: []string{"image/registry"},
	reason: "one package knows where images come from, and what is not to be said to whom",
}, {
	what:   []string{"github.com/vishvananda/netns"},
	places: nil,
	reason: "its New and NewNamed are not atomic and leave the thread changed: see internal/nsthread",
}, {
	what: []string{
		"k8s.io/api/...", "k8s.io/apimachinery/...", "go.yaml.in/yaml/v3", "github.com/agnivade/levenshtein",
	},
	places: []string{"kube", "cmd/internal/kubecli"},
	reason: "the Kubernetes API's types take milliseconds to load: podbox itself starts without them",
}, {
	what:   []string{module + "/kube"},
	places: []string{"kube", "cmd/internal/kubecli"},
	reason: "podbox-kube is the program that has the Kubernetes API's types in it",
}, {
	what:   []string{"unsafe"},
	places: []string{"internal/spawn", "internal/nsfs", "internal/ebpf", "netns", "launcher", "examples"},
	reason: "what the type system does not see must be seen by a reader: few places, each small",
}, {
	what:   []string{"testing", module + "/internal/testenv"},
	places: []string{"internal/testenv"},
	reason: "tests do not reach the programs that are built",
}, {
	what:   []string{"builtin.init"},
	places: nil,
	reason: "work that nobody asked for costs every program that imports us; main wires everything",
}}

// vague are names of packages that say nothing of what is inside, and so attract
// everything.
var vague = []string{"util", "utils", "common", "helpers", "types", "misc", "base", "lib", "shared"}

// heavy are libraries, with all below them, whose packages take long to initialise
// or much memory.
var heavy = []string{
	"github.com/google/go-containerregistry", "github.com/containerd/containerd", "go.podman.io", "k8s.io", "google.golang.org",
	module + "/image/ingest", module + "/image/registry", module + "/kube", module + "/cmd/internal/kubecli",
}

// TestPodboxIsLean holds that podbox does not have them: it starts in 2 ms, and its
// supervisors stay. podbox-kube has them.
func TestPodboxIsLean(t *testing.T) {
	for _, complaint := range loaded(t, os.DirFS(".."), "cmd/podbox") {
		t.Error(complaint)
	}
	if fat := loaded(t, os.DirFS(".."), "cmd/podbox-kube"); len(fat) == 0 {
		t.Error("podbox-kube has no heavy library: is it not seen?")
	}
}

// loaded tells of the heavy libraries that a program of the module is linked with, and
// by whom each is imported.
func loaded(t *testing.T, fsys fs.FS, program string) (complaints []string) {
	seen, queue := map[string]bool{program: true}, []string{program}
	for len(queue) > 0 {
		dir := queue[0]
		queue = queue[1:]
		names, err := fs.Glob(fsys, dir+"/*.go")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			text, err := fs.ReadFile(fsys, name)
			if err != nil {
				t.Fatal(err)
			}
			file, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ImportsOnly)
			if err != nil {
				t.Fatal(err)
			}
			for _, i := range file.Imports {
				imported, err := strconv.Unquote(i.Path.Value)
				if err != nil {
					t.Fatal(err)
				}
				if slices.ContainsFunc(heavy, func(h string) bool { return imported == h || strings.HasPrefix(imported, h+"/") }) {
					complaints = append(complaints, fmt.Sprintf("%s: %s imports %s, which takes long to start: it is for podbox-kube", program, name, imported))
				}
				if ours, ok := strings.CutPrefix(imported, module+"/"); ok && !seen[ours] {
					seen[ours] = true
					queue = append(queue, ours)
				}
			}
		}
	}
	return complaints
}

func TestArchitecture(t *testing.T) {
	complaints, files, err := examine(os.DirFS(".."))
	if err != nil {
		t.Fatal(err)
	}
	if files < 30 {
		t.Fatalf("looked at %d files only: is this the module?", files)
	}
	for _, c := range complaints {
		t.Error(c)
	}
}

// TestArchitectureComplains sees to it that TestArchitecture would.
func TestArchitectureComplains(t *testing.T) {
	for source, want := range map[string]string{
		"root.go: package podbox":                                                              "root.go: Go source in the root",
		"internal/util/x.go: package util":                                                     "internal/util: a name that says nothing",
		`netns/x.go: package netns; import "` + module + `/sandbox"`:                           "netns/x.go: netns imports sandbox: the arrow points the other way",
		`netns/x.go: package netns; import "` + module + `/ipcns"`:                             "netns/x.go: netns imports ipcns: the arrow points the other way",
		`internal/a/x.go: package a; import "` + module + `/netns"`:                            "internal/a/x.go: internal imports netns: the arrow points the other way",
		`internal/a/x.go: package a; import "` + module + `/internal/mnt"`:                     "internal/a/x.go: imports internal/mnt: internal packages stand alone",
		`web/x.go: package web`:                                                                "web/x.go: web is not on the arrow",
		`sandbox/x.go: package x; import "flag"`:                                               "sandbox/x.go: flag:",
		`sandbox/x.go: package x; import "os"; func f() { os.Exit(1) }`:                        "sandbox/x.go: os.Exit:",
		`netns/x.go: package x; import f "fmt"; var _ = f.Println`:                             "netns/x.go: fmt.Println:",
		`ipcns/x.go: package x; func init() {}`:                                                "ipcns/x.go: builtin.init:",
		`ipcns/x.go: package x; func f() { println() }`:                                        "ipcns/x.go: builtin.println:",
		`ipcns/x.go: package x; import "golang.org/x/sys/unix"; func f() { unix.Setns(0, 0) }`: "ipcns/x.go: unix.Setns:",
		`cmd/podbox/x.go: package x; import "k8s.io/api/core/v1"`:                              "cmd/podbox/x.go: k8s.io/api/core/v1:",

		// And where it would not.
		`sandbox/x_test.go: package x; import ("flag"; "testing"); func init() { testing.Init() }`:        "",
		`cmd/podbox/x.go: package main; import ("os"; "` + module + `/sandbox"); func f() { os.Exit(1) }`: "",
		`sandbox/testdata/x.go: package x; import "flag"`:                                                 "",
		`ipcns/x.go: package x; type T struct{}; func (T) init() {}; func f(t T) { t.init() }`:            "",
		`ipcns/x.go: package x; import "fmt"; func f(os struct{ Exit int }) { _ = os.Exit }`:              "",
		`sandbox/x.go: package x; import ("` + module + `/netns"; "` + module + `/internal/mnt")`:         "",
	} {
		name, text, _ := strings.Cut(source, ": ")
		got, _, err := examine(fstest.MapFS{name: &fstest.MapFile{Data: []byte(text)}})
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		if want == "" && len(got) > 0 || want != "" && (len(got) != 1 || !strings.HasPrefix(got[0], want)) {
			t.Errorf("%s:\n got %q\nwant %q", source, got, want)
		}
	}
}

// examine reads all Go files of a module, for whatever platform they are, and
// returns what is wrong with them.
func examine(fsys fs.FS) (complaints []string, files int, err error) {
	err = fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := path.Base(name)
		if d.IsDir() {
			if name != "." && (base[0] == '.' || base[0] == '_' || base == "testdata" || base == "bin") {
				return fs.SkipDir
			}
			if slices.Contains(vague, base) {
				complaints = append(complaints, name+": a name that says nothing of what is inside")
			}
			return nil
		}
		if path.Ext(name) != ".go" {
			return nil
		}
		files++
		text, err := fs.ReadFile(fsys, name)
		if err != nil {
			return err
		}
		c, err := examineFile(name, text)
		complaints = append(complaints, c...)
		return err
	})
	return complaints, files, err
}

func examineFile(name string, text []byte) ([]string, error) {
	var complaints []string
	complain := func(format string, args ...any) {
		complaints = append(complaints, name+": "+fmt.Sprintf(format, args...))
	}
	top, _, nested := strings.Cut(name, "/")
	if !nested {
		complain("Go source in the root: each package has a folder that says what it is")
		return complaints, nil
	}
	if rank(top) < 0 {
		complain("%s is not on the arrow: cmd, kube, supervisor, launcher, sandbox, netns and its like, internal", top)
		return complaints, nil
	}
	file, err := parser.ParseFile(token.NewFileSet(), name, text, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	test := strings.HasSuffix(name, "_test.go")
	packages := map[string]string{} // by the name that they have in the file
	for _, i := range file.Imports {
		imported, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			return nil, err
		}
		local := path.Base(imported)
		if i.Name != nil {
			local = i.Name.Name
		}
		packages[local] = path.Base(imported)
		if ours, ok := strings.CutPrefix(imported, module+"/"); ok {
			to, _, _ := strings.Cut(ours, "/")
			switch {
			case test:
			case ours == "internal/fault": // words that all share
			case top == "internal" && to == "internal":
				complain("imports %s: internal packages stand alone", ours)
			case rank(to) <= rank(top) && to != top:
				complain("%s imports %s: the arrow points the other way", top, to)
			}
		}
		if !test {
			complaints = append(complaints, broken(name, imported)...)
		}
	}
	if test {
		return complaints, nil
	}
	for _, used := range uses(file, packages) {
		complaints = append(complaints, broken(name, used)...)
	}
	return complaints, nil
}

func rank(top string) int {
	return slices.IndexFunc(arrow, func(level []string) bool { return slices.Contains(level, top) })
}

// uses returns what a file uses of other packages, as package.Name, its calls of
// print and println, and whether it has an init function, as parts of "builtin".
func uses(file *ast.File, packages map[string]string) []string {
	var found []string
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && packages[x.Name] != "" {
				found = append(found, packages[x.Name]+"."+n.Sel.Name)
			}
		case *ast.CallExpr:
			if f, ok := n.Fun.(*ast.Ident); ok && (f.Name == "print" || f.Name == "println") {
				found = append(found, "builtin."+f.Name)
			}
		case *ast.FuncDecl:
			if n.Recv == nil && n.Name.Name == "init" {
				found = append(found, "builtin.init")
			}
		}
		return true
	})
	slices.Sort(found)
	return slices.Compact(found)
}

// covers reports whether a rule's word is about what is used; "x/..." is about all packages
// below x.
func covers(word, used string) bool {
	if below, ok := strings.CutSuffix(word, "/..."); ok {
		return strings.HasPrefix(used, below+"/")
	}
	return word == used
}

// broken returns the rules that a file breaks by using what.
func broken(name, what string) []string {
	var complaints []string
	for _, r := range rules {
		if !slices.ContainsFunc(r.what, func(w string) bool { return covers(w, what) }) || slices.ContainsFunc(r.places, func(place string) bool {
			return name == place || strings.HasPrefix(name, place+"/")
		}) {
			continue
		}
		complaints = append(complaints, fmt.Sprintf("%s: %s: %s (allowed in: %s)", name, what, r.reason, strings.Join(r.places, ", ")))
	}
	return complaints
}
