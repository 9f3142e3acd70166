package internal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/podbox/podbox/launcher"
	"github.com/podbox/podbox/netns"
	"github.com/podbox/podbox/sandbox"
)

func web(ctx context.Context) (err error) {
	rt, err := sandbox.Open(sandbox.Options{})
	if err != nil {
		return err
	}
	defer rt.Close()
	pod, err := rt.Create(ctx, sandbox.Spec{Name: "web", Network: netns.Pod()})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pod.Remove(ctx)) }()

	proc, err := launcher.Start(ctx, pod, &specs.Spec{
		Process: &specs.Process{Args: []string{"ip", "addr"}, Cwd: "/"},
	}, launcher.IO{Stdout: os.Stdout})
	if err != nil {
		return err
	}
	status, err := proc.Wait(ctx)
	fmt.Println("exit status", status, "in", pod.Namespaces())
	return err
}

// TestReadme sees to it that the README's Go compiles: it stands in this file.
func TestReadme(t *testing.T) {
	_ = web
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	this, err := os.ReadFile("readme_test.go")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(readme), -1)
	if len(blocks) == 0 {
		t.Fatal("README.md has no Go")
	}
	for _, b := range blocks {
		if !strings.Contains(string(this), b[1]) {
			t.Errorf("README.md has Go that is not in readme_test.go:\n%s", b[1])
		}
	}
}

// TestLinks sees to it that links between the documents lead somewhere.
func TestLinks(t *testing.T) {
	docs := []string{"README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"}
	for _, doc := range docs {
		b, err := os.ReadFile("../" + doc)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range regexp.MustCompile(`\]\(([^)#]+)`).FindAllStringSubmatch(string(b), -1) {
			if strings.Contains(l[1], "://") {
				continue
			}
			if _, err := os.Stat("../" + l[1]); err != nil {
				t.Errorf("%s: link to %s: %v", doc, l[1], err)
			}
		}
	}
}
