package kube

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/agnivade/levenshtein"
	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Limits of one document, its aliases expanded: a few lines of YAML can stand for billions.
const (
	maxDepth = 64
	maxNodes = 100_000
	maxBytes = 2 * maxDocument
)

var errTooDeep = fmt.Errorf("nested deeper than %d", maxDepth)

// A walk goes through a document along the API's types, and makes a tree for JSON of it.
type walk struct {
	d       *decoder
	doc     *document
	first   int // the document's first line in the file
	spent   *budget
	moot    []string
	dropped []*Problem
	nested  int    // lists around the object
	kind    string // what the list around it is of
}

// A budget is what a document's expansion may yet take.
type budget struct {
	nodes, bytes int
	exhausted    bool
}

func newWalk(d *decoder, doc *document, first int) *walk {
	return &walk{d: d, doc: doc, first: first, spent: new(budget)}
}

func (w *walk) complain(path, text string) { w.d.complain(w.doc.problem(path, text)) }

// wrong tells what is wrong with a node that is written at path.
func (w *walk) wrong(n *yaml.Node, path, text string) {
	p := w.doc.problem(path, text)
	p.Line = w.line(n)
	w.d.complain(p)
}

func (w *walk) line(n *yaml.Node) int { return w.first + n.Line - 1 }

// resolve returns what an alias stands for, and reports whether the document is still
// within its limits.
func (w *walk) resolve(n *yaml.Node, path string, depth int) (*yaml.Node, bool) {
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		n = n.Alias // which is no alias itself
	}
	w.spent.nodes++
	w.spent.bytes += len(n.Value)
	if w.spent.exhausted {
		return n, false
	}
	switch {
	case depth > maxDepth:
		w.wrong(n, path, errTooDeep.Error())
	case w.spent.nodes > maxNodes:
		w.wrong(n, path, fmt.Sprintf("the document has more than %d values, its aliases expanded", maxNodes))
	case w.spent.bytes > maxBytes:
		w.wrong(n, path, fmt.Sprintf("the document has more than %d MiB, its aliases expanded", maxBytes>>20))
	default:
		return n, true
	}
	w.spent.exhausted = true
	return n, false
}

// A pair is a key of a mapping with its value.
type pair struct {
	key   string
	at    *yaml.Node // the key
	value *yaml.Node
}

// pairs returns a mapping's, merged ones included, and complains of keys that come twice.
func (w *walk) pairs(n *yaml.Node, path string, depth int) []pair {
	var own, merged []pair
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, ok := w.resolve(n.Content[i], path, depth)
		if !ok {
			return nil
		}
		if k.Kind != yaml.ScalarNode {
			w.wrong(k, path, "want names as keys")
			continue
		}
		if k.ShortTag() == "!!merge" {
			merged = append(merged, w.merge(n.Content[i+1], path, depth+1)...)
			continue
		}
		if seen[k.Value] {
			w.wrong(k, join(path, k.Value), "given twice")
			continue
		}
		seen[k.Value] = true
		own = append(own, pair{k.Value, k, n.Content[i+1]})
	}
	for _, m := range merged { // what is said here, or first, wins
		if !seen[m.key] {
			seen[m.key] = true
			own = append(own, m)
		}
	}
	return own
}

func (w *walk) merge(n *yaml.Node, path string, depth int) []pair {
	n, ok := w.resolve(n, path, depth)
	if !ok {
		return nil
	}
	switch n.Kind {
	case yaml.MappingNode:
		return w.pairs(n, path, depth)
	case yaml.SequenceNode:
		var all []pair
		for _, c := range n.Content {
			all = append(all, w.merge(c, path, depth+1)...)
		}
		return all
	}
	w.wrong(n, join(path, "<<"), "want a mapping to merge")
	return nil
}

// value checks n, which is at path, against a type, and returns it for JSON. In a field that
// is not done nothing has a fate of its own: fates is false.
func (w *walk) value(t reflect.Type, n *yaml.Node, path string, depth int, fates bool) any {
	n, ok := w.resolve(n, path, depth)
	if !ok {
		return nil
	}
	if _, known := w.doc.lines[path]; !known {
		w.doc.lines[path] = w.line(n)
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" {
		return nil
	}
	if n.Tag != "" && !strings.HasPrefix(n.Tag, "!!") || n.ShortTag() == "!!binary" {
		w.wrong(n, path, fmt.Sprintf("want no tag %s", n.Tag))
		return nil
	}
	if leaf, ok := leaves[t]; ok {
		return w.leaf(leaf, n, path)
	}
	switch t.Kind() {
	case reflect.Struct:
		return w.object(t, n, path, depth, fates)
	case reflect.Map:
		if !w.is(n, yaml.MappingNode, path, "a mapping") {
			return nil
		}
		out := map[string]any{}
		for _, p := range w.pairs(n, path, depth) {
			if isBool(p.at) {
				w.wrong(p.at, path, fmt.Sprintf("key %s: want a string: put it in quotes", p.key))
			}
			out[p.key] = w.element(t.Elem(), p.value, fmt.Sprintf("%s[%s]", path, p.key), depth, fates)
		}
		return out
	case reflect.Slice:
		if !w.is(n, yaml.SequenceNode, path, "a list") {
			return nil
		}
		out := []any{}
		for i, c := range n.Content {
			dropped := len(w.dropped)
			e := w.element(t.Elem(), c, fmt.Sprintf("%s[%d]", path, i), depth, fates)
			if m, ok := e.(map[string]any); ok && len(m) == 0 && len(w.dropped) > dropped {
				continue // nothing of it is left
			}
			out = append(out, e)
		}
		return out
	case reflect.String:
		return w.leaf(text, n, path)
	case reflect.Bool:
		return w.leaf(boolean, n, path)
	case reflect.Int32, reflect.Int64:
		return w.leaf(whole(t), n, path)
	}
	w.wrong(n, path, fmt.Sprintf("no value can be a %v", t))
	return nil
}

// element is value of what may not be null.
func (w *walk) element(t reflect.Type, n *yaml.Node, path string, depth int, fates bool) any {
	v := w.value(t, n, path, depth+1, fates)
	if v == nil && n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" {
		w.wrong(n, path, "want a value")
	}
	return v
}

func (w *walk) is(n *yaml.Node, kind yaml.Kind, path, want string) bool {
	if n.Kind == kind {
		return true
	}
	w.wrong(n, path, fmt.Sprintf("%s: want %s", describe(n), want))
	return false
}

func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	return short(n.Value)
}

// short quotes what a manifest says, but not at length: it may be anything.
func short(s string) string {
	if len(s) > 64 {
		cut := 60
		for !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = s[:cut] + "..."
	}
	return fmt.Sprintf("%q", s)
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// jsonFields returns the types of a struct's fields by their names in JSON.
func jsonFields(t reflect.Type) map[string]reflect.Type {
	out := map[string]reflect.Type{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous && name == "" {
			maps.Copy(out, jsonFields(f.Type))
			continue
		}
		out[name] = f.Type
	}
	return out
}

func (w *walk) object(t reflect.Type, n *yaml.Node, path string, depth int, fates bool) any {
	if !w.is(n, yaml.MappingNode, path, "a mapping") {
		return nil
	}
	known := jsonFields(t)
	out := map[string]any{}
	for _, p := range w.pairs(n, path, depth) {
		at := join(path, p.key)
		ft, ok := known[p.key]
		if !ok {
			w.wrong(p.at, at, "no such field"+suggest(p.key, known))
			continue
		}
		w.doc.lines[at] = w.line(p.at)
		name := t.Name() + "." + p.key
		if name == "Pod.status" || name == "ObjectMeta.managedFields" {
			// Whatever a cluster has written there is nobody's wish.
			continue
		}
		field := w.d.fields[name]
		v := w.value(ft, p.value, at, depth+1, fates && field.Fate == Done)
		if fates && !isZero(v) {
			switch field.Fate {
			case Moot:
				w.moot = append(w.moot, w.doc.prefix+at)
			case Refused:
				problem := w.doc.problem(at, "refused: "+plain(field.About))
				if !w.d.opts.Lenient {
					w.d.complain(problem)
				} else {
					w.dropped = append(w.dropped, problem)
				}
				continue
			}
		}
		if v != nil {
			out[p.key] = v
		}
	}
	return out
}

// plain returns a sentence of the table as it reads in an error.
func plain(about string) string {
	return strings.TrimSuffix(strings.ReplaceAll(about, "`", ""), ".")
}

// isZero reports whether a value says no more than its absence.
func isZero(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case map[string]any:
		return len(v) == 0
	case []any:
		return len(v) == 0
	}
	return reflect.ValueOf(v).IsZero()
}

func suggest(key string, known map[string]reflect.Type) string {
	if len(key) > 64 {
		return ""
	}
	best, distance := "", 3
	for _, name := range slices.Sorted(maps.Keys(known)) {
		if strings.EqualFold(name, key) {
			best = name
			break
		}
		if d := levenshtein.ComputeDistance(name, key); d < distance {
			best, distance = name, d
		}
	}
	if best == "" {
		return ""
	}
	return ": did you mean " + best + "?"
}

// A leafKind turns a scalar into what JSON has for it.
type leafKind struct {
	want string
	get  func(n *yaml.Node) (any, error)
}

var errKind = errors.New("of another kind")

func (w *walk) leaf(k leafKind, n *yaml.Node, path string) any {
	if n.Kind != yaml.ScalarNode {
		w.wrong(n, path, fmt.Sprintf("%s: want %s", describe(n), k.want))
		return nil
	}
	v, err := k.get(n)
	if err == nil {
		return v
	}
	what := short(n.Value)
	if n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0 && n.ShortTag() != "!!str" {
		what = n.Value
	}
	if strings.HasPrefix(path, "data[") { // of a Secret it may be a secret
		what = "what is there"
	}
	w.wrong(n, path, fmt.Sprintf("%s: want %s", what, k.want))
	return nil
}

// yaml11 are booleans of YAML 1.1, which Kubernetes reads.
var yaml11 = regexp.MustCompile(`^(?:yes|Yes|YES|on|On|ON|no|No|NO|off|Off|OFF)$`)

func isBool(n *yaml.Node) bool {
	return n.ShortTag() == "!!bool" || n.Style == 0 && yaml11.MatchString(n.Value)
}

var text = leafKind{"a string: put it in quotes", func(n *yaml.Node) (any, error) {
	switch n.ShortTag() {
	case "!!str", "!!timestamp":
		if !isBool(n) {
			return n.Value, nil
		}
	}
	return nil, errKind
}}

var boolean = leafKind{"true or false", func(n *yaml.Node) (any, error) {
	if !isBool(n) {
		return nil, errKind
	}
	var b bool
	err := n.Decode(&b)
	return b, err
}}

func integer(n *yaml.Node) (int64, error) {
	if n.ShortTag() != "!!int" {
		return 0, errKind
	}
	var i int64
	err := n.Decode(&i)
	return i, err
}

func whole(t reflect.Type) leafKind {
	if t.Kind() == reflect.Int32 {
		return leafKind{"a whole number of at most 32 bits", func(n *yaml.Node) (any, error) {
			i, err := integer(n)
			if err == nil && int64(int32(i)) != i {
				err = errKind
			}
			return i, err
		}}
	}
	return leafKind{"a whole number", func(n *yaml.Node) (any, error) { return integer(n) }}
}

// leaves are types that are written as one scalar.
var leaves = map[reflect.Type]leafKind{
	reflect.TypeFor[[]byte](): {"base64", func(n *yaml.Node) (any, error) {
		s, err := text.get(n)
		if err != nil {
			return nil, err
		}
		b, err := base64.StdEncoding.DecodeString(s.(string))
		return b, err
	}},
	reflect.TypeFor[resource.Quantity](): {"a quantity such as 250m, 0.5 or 64Mi", func(n *yaml.Node) (any, error) {
		switch n.ShortTag() {
		case "!!int", "!!float", "!!str":
			if isBool(n) || len(n.Value) > 64 {
				return nil, errKind
			}
			_, err := resource.ParseQuantity(n.Value)
			return n.Value, err
		}
		return nil, errKind
	}},
	reflect.TypeFor[intstr.IntOrString](): {"a whole number or a name", func(n *yaml.Node) (any, error) {
		if n.ShortTag() == "!!int" {
			i, err := integer(n)
			if err == nil && int64(int32(i)) != i {
				err = errKind
			}
			return i, err
		}
		return text.get(n)
	}},
	reflect.TypeFor[metav1.Time](): {"a time such as 2006-01-02T15:04:05Z", func(n *yaml.Node) (any, error) {
		s, err := text.get(n)
		if err != nil {
			return nil, err
		}
		var t metav1.Time
		return s, t.UnmarshalQueryParameter(s.(string))
	}},
}

// A head is what says how to read the rest.
type head struct{ kind, version, name string }

// head returns that of an object; of an item in a typed list it may say less.
func (w *walk) head(n *yaml.Node) (h head, ok bool) {
	n, ok = w.resolve(n, "", 0)
	if !ok || !w.is(n, yaml.MappingNode, "", "a mapping with apiVersion, kind and metadata") {
		return h, false
	}
	get := func(n *yaml.Node, key string) *yaml.Node {
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Kind == yaml.MappingNode && n.Content[i].Value == key {
				return n.Content[i+1]
			}
		}
		return new(yaml.Node)
	}
	for key, to := range map[string]*string{"kind": &h.kind, "apiVersion": &h.version} {
		at := get(n, key)
		if at.Kind != 0 {
			w.doc.lines[key] = w.line(at)
		}
		if len(at.Value) <= 128 {
			*to = at.Value
		}
	}
	if name := get(get(n, "metadata"), "name"); len(name.Value) <= 253 {
		h.name = name.Value
	}
	if w.kind != "" && h.kind == "" {
		h.kind, h.version = w.kind, "v1"
	}
	return h, true
}

// items returns those of a list.
func (w *walk) items(n *yaml.Node) ([]*yaml.Node, bool) {
	n, _ = w.resolve(n, "", 0)
	var out []*yaml.Node
	for _, p := range w.pairs(n, "", 0) {
		switch p.key {
		case "apiVersion", "kind", "metadata":
		case "items":
			items, ok := w.resolve(p.value, "items", 1)
			if !ok || !w.is(items, yaml.SequenceNode, "items", "a list") {
				return nil, false
			}
			out = items.Content
		default:
			w.wrong(p.at, p.key, "no such field")
			return nil, false
		}
	}
	return out, true
}
