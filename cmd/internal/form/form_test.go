package form

import (
	"io"
	"strings"
	"testing"
)

func TestForms(t *testing.T) {
	for _, o := range []Choice{{Template: "{{"}, {Template: "{{nope}}"}} {
		if _, err := o.Parse(); err == nil {
			t.Errorf("%q parses", o.Template)
		}
	}
	if tmpl, err := new(Choice).Parse(); tmpl != nil || err != nil {
		t.Errorf("of no format: %v, %v", tmpl, err)
	}
	type thing struct {
		Name   string
		Labels map[string]string
	}
	var b strings.Builder
	tmpl, err := (&Choice{Template: `{{.Name}} {{json .Labels}}`}).Parse()
	if err != nil {
		t.Fatal(err)
	}
	if err := Each(&b, tmpl, []*thing{{Name: "a", Labels: map[string]string{"k": "v"}}, {Name: "b"}}); err != nil {
		t.Fatal(err)
	}
	if want := "a {\"k\":\"v\"}\nb null\n"; b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
	type check struct {
		Name   string `json:"name"`
		Status string `json:"status"`
	}
	for name, want := range map[string]string{"json": "{\n  \"name\": \"root\",\n  \"status\": \"ok\"\n}\n", "yaml": "name: root\nstatus: ok\n"} {
		b.Reset()
		if err := Encode(&b, name, check{"root", "ok"}); err != nil || b.String() != want {
			t.Errorf("%s: %q, %v, want %q", name, b.String(), err, want)
		}
	}
	b.Reset()
	if err := Table(&b, []string{"A", "B"}, [][]string{{"long name", "x"}, {"\x1b[2J\n", Dash("")}}); err != nil {
		t.Fatal(err)
	}
	if want := "A             B\nlong name     x\n\"\\x1b[2J\\n\"   -\n"; b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
	if err := Encode(io.Discard, "json", func() {}); err == nil {
		t.Error("a function is encoded")
	}
}
