package systemd

import (
	"bytes"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestEncode(t *testing.T) {
	s := Service{
		Pod: "web", Comment: "Made by a test.", Dirs: []string{"/run/podbox", "/var/lib/100%"}, Grace: 40 * time.Second,
		Before: [][]string{{"/usr/bin/podbox", "rm", "-f", "web"}},
		Start:  [][]string{{"/usr/bin/podbox", "create", "web"}, {"/usr/bin/podbox", "run", "-d", "web", "--", "sh", "-c", "echo $HOME; sleep 9"}},
		Reload: [][]string{{"/usr/bin/podbox", "apply", "-f", "-"}},
		Stop:   [][]string{{"/usr/bin/podbox", "stop", "web"}},
		After:  [][]string{{"/usr/bin/podbox", "rm", "-f", "web"}},
		Input:  []byte("a: 1\n  b: '100%'\n\n\nc: \\ \n"),
	}
	got, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	const want = `# Made by a test.

[Unit]
Description=Pod web
Documentation=man:podbox(1)
Wants=network-online.target podbox-network.service
After=network-online.target nss-lookup.target nftables.service firewalld.service ufw.service podbox-network.service
RequiresMountsFor=/run/podbox "/var/lib/100%%"
StartLimitIntervalSec=15min
StartLimitBurst=5

[Service]
Type=oneshot
RemainAfterExit=yes
Restart=on-failure
RestartSec=30s
TimeoutStopSec=40
StandardInput=data
StandardInputText=a: 1
StandardInputText=\x20 b: '100%%'\n\n
StandardInputText=c: \\\x20
ExecStartPre=/usr/bin/podbox rm -f web
ExecStart=/usr/bin/podbox create web
ExecStart=/usr/bin/podbox run -d web -- sh -c "echo $$HOME; sleep 9"
ExecReload=/usr/bin/podbox apply -f -
ExecStop=/usr/bin/podbox stop web
ExecStopPost=/usr/bin/podbox rm -f web

[Install]
WantedBy=multi-user.target
`
	if string(got) != want {
		t.Errorf("got\n%s", got)
	}
	if back := readInput(t, got); !bytes.Equal(back, s.Input) {
		t.Errorf("input %q, want %q", back, s.Input)
	}
	if s.Name() != "podbox@web.service" {
		t.Error(s.Name())
	}
}

// TestNotSaid holds that what systemd would pass over is refused.
func TestNotSaid(t *testing.T) {
	for _, s := range []Service{
		{Start: [][]string{{"/p", "a\xff"}}},
		{Start: [][]string{{"/p", "a\x00"}}},
		{Start: [][]string{{"/p", strings.Repeat("x", maxLine)}}},
		{Input: []byte("a: \xff\n")},
		{Input: []byte(strings.Repeat("x", maxLine) + "\n")},
		{Dirs: []string{"\xff"}},
	} {
		if _, err := s.Encode(); !errors.Is(err, ErrNotSaid) {
			t.Errorf("%.60q: %v", s, err)
		}
	}
}

func TestCommandLine(t *testing.T) {
	for want, argv := range map[string][]string{
		`/bin/podbox`:                     {"/bin/podbox"},
		`/p -f --name=a -p 80:80/tcp`:     {"/p", "-f", "--name=a", "-p", "80:80/tcp"},
		`/p ""`:                           {"/p", ""},
		`/p ";" "\\;" "a;b"`:              {"/p", ";", `\;`, "a;b"},
		`/p "%%n" "$$X" "$${X}"`:          {"/p", "%n", "$X", "${X}"},
		`/p "a b" "it's" "\"" "\\"`:       {"/p", "a b", "it's", `"`, `\`},
		`/p "a\nb" "\t" "\x1b" "\x7f"`:    {"/p", "a\nb", "\t", "\x1b", "\x7f"},
		`"@/p" "é" "#x" "~" "=" ":" "+a"`: {"@/p", "é", "#x", "~", "=", ":", "+a"},
	} {
		if got, err := CommandLine(argv); err != nil || got != want {
			t.Errorf("%q: %s, %v, want %s", argv, got, err, want)
		}
	}
}

// FuzzCommandLine has a line taken apart by the rules of systemd.syntax(7).
func FuzzCommandLine(f *testing.F) {
	for _, s := range []string{"a b", `;`, `\;`, "%%", "$$x", `"\`, "\n\t\x01", " ", "'", `\x20`} {
		f.Add("/p", s)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		argv := []string{a, b, a + b}
		line, err := CommandLine(argv)
		if err != nil {
			if !strings.ContainsFunc(a+b, unknown) && utf8.ValidString(a) && utf8.ValidString(b) {
				t.Errorf("%q: %v", argv, err)
			}
			return
		}
		if strings.ContainsAny(line, "\n\x00") || strings.HasSuffix(line, `\`) {
			t.Errorf("%q: line %q", argv, line)
		}
		if got := parse(t, line); !slices.Equal(got, argv) {
			t.Errorf("%q: %s is %q", argv, line, got)
		}
	})
}

func FuzzInput(f *testing.F) {
	for _, s := range []string{"a: b\n", " x\n\n y \n", "%\n", "\\\n", "\t\n", "#\n;\n", "x\n\n\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		text = strings.TrimLeft(text, "\n") + "\n" // as YAML is written
		s := Service{Input: []byte(text)}
		unit, err := s.Encode()
		if err != nil {
			return
		}
		if got := readInput(t, unit); text != "\n" && string(got) != text {
			t.Errorf("%q is read as %q", text, got)
		}
	})
}

// parse takes a command line apart as systemd does: words, with quotes and escapes; then
// what % and $ mean.
func parse(t *testing.T, line string) []string {
	t.Helper()
	var argv []string
	for line = strings.TrimLeft(line, " "); line != ""; line = strings.TrimLeft(line, " ") {
		var word string
		if rest, ok := strings.CutPrefix(line, `"`); ok {
			end := 0
			for ; end < len(rest) && rest[end] != '"'; end++ {
				if rest[end] == '\\' {
					end++
				}
			}
			if end >= len(rest) {
				t.Fatalf("%s: a quote does not end", line)
			}
			word, line = rest[:end], rest[end+1:]
			if line != "" && line[0] != ' ' {
				t.Fatalf("%s: a quote in a word", line)
			}
		} else {
			word, line, _ = strings.Cut(line, " ")
			if strings.ContainsAny(word, `"'\;$%`) {
				t.Fatalf("%s: should be quoted", word)
			}
		}
		word = unescape(t, word)
		for _, c := range []string{"%", "$"} {
			if rest := strings.ReplaceAll(word, c+c, ""); strings.Contains(rest, c) {
				t.Fatalf("%q: a %s that means something", word, c)
			}
			word = strings.ReplaceAll(word, c+c, c)
		}
		argv = append(argv, word)
	}
	return argv
}

func unescape(t *testing.T, s string) string {
	t.Helper()
	// Go's strings have the same escapes, but that of systemd's strings a quote may be there.
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			continue
		}
		switch i++; s[i] {
		case 'n':
			b.WriteByte('\n')
		case 't':
			b.WriteByte('\t')
		case '\\', '"':
			b.WriteByte(s[i])
		case 'x':
			n, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
			if err != nil {
				t.Fatal(err)
			}
			b.WriteByte(byte(n))
			i += 2
		default:
			t.Fatalf("%q: escape %c", s, s[i])
		}
	}
	return b.String()
}

// readInput returns what the commands of a unit read.
func readInput(t *testing.T, unit []byte) []byte {
	t.Helper()
	var text []byte
	for line := range strings.Lines(string(unit)) {
		value, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "StandardInputText=")
		if !ok {
			continue
		}
		if value = strings.Trim(value, " \t\n\r"); value == "" {
			text = nil
			continue
		}
		text = append(text, strings.ReplaceAll(unescape(t, value), "%%", "%")+"\n"...)
	}
	return text
}
