package docs

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// drawn is the kind of block that holds the picture of a pod.
const drawn = "text drawn"

// A column of the picture is one process, and the numbers of its namespaces by kind.
type column struct {
	name       string
	namespaces map[string]string
}

// kinds are in the order in which the picture has them.
var kinds = []string{"net", "ipc", "uts", "pid", "mnt"}

// makePod is what the picture is drawn of: three programs in one pod.
const makePod = `
mkdir -p box/bin && cp /bin/busybox box/bin/ && chroot box /bin/busybox --install -s /bin &&
podbox create web && podbox run -d --name db --rootfs box web -- sleep 1000 && podbox run -d --name www --rootfs box web -- sleep 1000 || exit
podbox exec web -- sleep 999 &
until pgrep -x -f 'sleep 999'; do :; done
`

// picture sees to it that the picture of a pod is what a pod is: it is drawn from the
// namespaces, the link and the addresses of one.
func picture(t *testing.T, d *document, s *shell) {
	if out, status, err := s.run(makePod); err != nil || status != 0 {
		t.Fatalf("status %d, %v: %s", status, err, strings.Join(out, "\n"))
	}
	ask := func(command string) string {
		t.Helper()
		out, status, err := s.run(command)
		if err != nil || status != 0 || len(out) != 1 {
			t.Fatalf("%s: status %d, %v: %q", command, status, err, out)
		}
		return out[0]
	}
	host := s.column(t, "host", "$$")
	columns := []column{
		s.column(t, "the pause", "$(podbox inspect web --format '{{.PausePID}}')"),
		s.column(t, "container db", "$(podbox inspect -c db web --format '{{.PID}}')"),
		s.column(t, "container www", "$(podbox inspect -c www web --format '{{.PID}}')"),
		s.column(t, "podbox exec", "$(pgrep -x -f 'sleep 999')"),
	}
	got := draw(host, columns, ask(`podbox inspect web --format '{{.Link}}'`), ask(`podbox inspect web --format 'eth0 {{.IP}} {{.IP6}}'`))
	if _, _, err := s.run("podbox rm -f -t 0 web"); err != nil {
		t.Fatal(err)
	}
	for b, ok := d.next(0); ok; b, ok = d.next(b.end + 1) {
		switch {
		case b.info != drawn:
			continue
		case same(d.lines[b.begin:b.end], got):
			return
		case *update:
			d.replace(b.begin, b.end, got)
			return
		}
		t.Fatalf("%s:%d shows\n%s\nbut a pod is\n%s", d.path, b.begin, strings.Join(d.lines[b.begin:b.end], "\n"), strings.Join(got, "\n"))
	}
	t.Fatalf("%s has no picture", d.path)
}

// column asks the kernel for the namespaces of a process.
func (s *shell) column(t *testing.T, name, pid string) column {
	t.Helper()
	out, _, err := s.run(fmt.Sprintf("(cd /proc/%s/ns && readlink %s)", pid, strings.Join(kinds, " ")))
	c := column{name, map[string]string{}}
	for _, link := range out {
		kind, number, _ := strings.Cut(link, ":")
		c.namespaces[kind] = strings.Trim(number, "[]")
	}
	if err != nil || len(c.namespaces) != len(kinds) {
		t.Fatalf("the namespaces of %s: %v: %q", name, err, out)
	}
	return c
}

// draw draws a pod. What stands side by side and is the same is drawn as one.
func draw(host column, columns []column, link, addresses string) []string {
	const left, width = 7, 18
	inside := left + width*len(columns)
	var all []string
	line := func(format string, args ...any) {
		all = append(all, strings.TrimRight(fmt.Sprintf(format, args...), " "))
	}
	box := func(text string) { line("│ %s │", text+strings.Repeat(" ", inside-len([]rune(text)))) }

	var numbers []string
	for _, kind := range kinds {
		numbers = append(numbers, kind+" "+host.namespaces[kind])
	}
	line("  the host   %s", strings.Join(numbers, "  "))
	line("     │")
	line("     │ %s   169.254.1.1  fe80::1", link)
	line("┌────┴─ pod web %s┐", strings.Repeat("─", inside-13))
	box("   " + addresses)
	box("")
	heads := strings.Repeat(" ", left)
	for _, c := range columns {
		heads += fmt.Sprintf("%-*s", width, c.name)
	}
	box(heads)
	for _, kind := range kinds {
		row := fmt.Sprintf("%-*s", left, kind)
		for i := 0; i < len(columns); {
			number := columns[i].namespaces[kind]
			end := i + 1
			for end < len(columns) && columns[end].namespaces[kind] == number {
				end++
			}
			text := number
			if number == host.namespaces[kind] {
				text = "the host's"
			}
			room := width*(end-i) - 2
			if end-i > 1 {
				text += " " + strings.Repeat("─", room-len(text)-1)
			}
			row += fmt.Sprintf("%-*s", width*(end-i), text)
			i = end
		}
		box(row)
	}
	line("└%s┘", strings.Repeat("─", inside+2))
	return all
}

// TestDraw holds that two namespaces which differ are not drawn as one.
func TestDraw(t *testing.T) {
	of := func(name, net string) column {
		c := column{name, map[string]string{}}
		for _, kind := range kinds {
			c.namespaces[kind] = cmp.Or(map[string]string{"net": net}[kind], "4026530000")
		}
		return c
	}
	host := of("host", "4026531111")
	shared := draw(host, []column{of("a", "4026532222"), of("b", "4026532222")}, "pbx0", "eth0")
	apart := draw(host, []column{of("a", "4026532222"), of("b", "4026533333")}, "pbx0", "eth0")
	own := draw(host, []column{of("a", "4026532222"), of("b", "4026531111")}, "pbx0", "eth0")
	for _, other := range [][]string{apart, own} {
		if same(shared, other) || slices.Equal(shared, other) {
			t.Errorf("drawn alike:\n%s\n%s", strings.Join(shared, "\n"), strings.Join(other, "\n"))
		}
	}
	if !strings.Contains(strings.Join(own, "\n"), "the host's") {
		t.Errorf("the host's namespace is drawn as another:\n%s", strings.Join(own, "\n"))
	}
}
