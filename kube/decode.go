package kube

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
)

// maxProblems is how many are told of: who has more has another kind of file.
const maxProblems = 50

// DecodeOptions say how strict Decode is. The zero value is as strict as can be.
type DecodeOptions struct {
	// Lenient drops refused fields and tells of them, rather than to refuse.
	Lenient bool
}

// Manifests are what Decode has read, and found to be right as far as it can be seen
// without a look at the machine.
type Manifests struct {
	ConfigMaps []*corev1.ConfigMap
	Secrets    []*corev1.Secret
	Pods       []*corev1.Pod
	// Notes tell, a line each, of what has no meaning here; Warnings, of what
	// was dropped.
	Notes, Warnings []string

	places map[any]*document // where an object of the above was found
}

// Decode reads manifests. Each thing that is wrong is a line of the error, which joins
// Problems; none of the manifests is returned then.
func Decode(sources []Source, opts DecodeOptions) (*Manifests, error) {
	d := &decoder{
		opts: opts, fields: Fields(), seen: map[string]*document{},
		out: &Manifests{places: map[any]*document{}},
	}
	for _, s := range sources {
		d.source(s)
	}
	if len(d.problems) == 0 && len(d.out.places) == 0 {
		return nil, fmt.Errorf("%w: no Pod, ConfigMap or Secret in what was read", ErrInvalid)
	}
	if len(d.problems) > 0 {
		return nil, d.err()
	}
	return d.out, nil
}

// A document is one of a source, or an item of a List in it.
type document struct {
	source string
	number int
	prefix string         // of paths: items[0].
	lines  map[string]int // of fields, by their paths
	name   string         // pod/web
}

// problem is at the place of path, or of the nearest field above it that is written.
func (doc *document) problem(path, text string) *Problem {
	p := &Problem{Source: doc.source, Document: doc.number, Path: doc.prefix + path, Text: text}
	for at := path; ; at = at[:strings.LastIndexAny(at, ".[")] {
		if line, ok := doc.lines[at]; ok {
			p.Line = line
			break
		}
		if strings.LastIndexAny(at, ".[") < 0 {
			p.Line = doc.lines[""]
			break
		}
	}
	p.Path = strings.TrimSuffix(p.Path, ".")
	return p
}

type decoder struct {
	opts      DecodeOptions
	fields    map[string]Field
	seen      map[string]*document // objects by kind, namespace and name
	documents int
	out       *Manifests
	problems  []error
	omitted   int
}

func (d *decoder) complain(p error) {
	if len(d.problems) == maxProblems {
		d.omitted++
		return
	}
	d.problems = append(d.problems, p)
}

func (d *decoder) err() error {
	if d.omitted > 0 {
		return errors.Join(append(d.problems, fmt.Errorf("and %d more like these: %w", d.omitted, ErrInvalid))...)
	}
	return errors.Join(d.problems...)
}

func (d *decoder) source(s Source) {
	number := 0
	for _, part := range split(s.Text) {
		doc := &document{source: s.Name, number: number + 1, lines: map[string]int{"": part.line}}
		if len(part.text) > maxDocument {
			number++
			d.complain(doc.problem("", fmt.Sprintf("larger than %d MiB, which is what the Kubernetes API accepts", maxDocument>>20)))
			continue
		}
		node, err := part.parse()
		if err != nil {
			number++
			line, text := syntaxError(err, part.line)
			d.complain(&Problem{Source: s.Name, Document: number, Line: line, Text: text})
			continue
		}
		if node == nil { // nothing but comments
			continue
		}
		number++
		if d.documents++; d.documents > maxDocuments {
			d.complain(doc.problem("", fmt.Sprintf("want at most %d documents", maxDocuments)))
			return
		}
		d.object(doc, newWalk(d, doc, part.line), node)
	}
}

// kinds are what can be applied, by the names of their types.
var kinds = map[string]reflect.Type{
	"Pod":       reflect.TypeFor[corev1.Pod](),
	"ConfigMap": reflect.TypeFor[corev1.ConfigMap](),
	"Secret":    reflect.TypeFor[corev1.Secret](),
}

func (d *decoder) object(doc *document, w *walk, node *yaml.Node) {
	head, ok := w.head(node)
	if !ok {
		return
	}
	kind, isList := strings.CutSuffix(head.kind, "List")
	if isList && head.version == "v1" && (kind == "" || kinds[kind] != nil) {
		d.list(doc, w, node, kind)
		return
	}
	t := kinds[head.kind]
	switch {
	case head.kind == "":
		w.complain("kind", "want Pod, ConfigMap or Secret")
		return
	case t == nil:
		text := fmt.Sprintf("%s: want Pod, ConfigMap or Secret", head.kind)
		if head.name != "" {
			text = fmt.Sprintf("%s %q: want Pod, ConfigMap or Secret", head.kind, head.name)
		}
		w.complain("kind", text)
		return
	case head.version != "v1":
		w.complain("apiVersion", fmt.Sprintf("%q: want v1", head.version))
		return
	}
	before := len(d.problems) + d.omitted
	tree := w.value(t, node, "", 0, true)
	if len(d.problems)+d.omitted > before {
		return
	}
	text, err := json.Marshal(tree)
	if err != nil {
		w.complain("", err.Error())
		return
	}
	obj := reflect.New(t).Interface()
	if err := json.Unmarshal(text, obj); err != nil {
		w.complain("", err.Error())
		return
	}
	d.keep(doc, w, obj)
}

func (d *decoder) list(doc *document, w *walk, node *yaml.Node, kind string) {
	items, ok := w.items(node)
	if !ok {
		return
	}
	for i, item := range items {
		if d.documents++; d.documents > maxDocuments {
			d.complain(doc.problem("", fmt.Sprintf("want at most %d objects", maxDocuments)))
			return
		}
		sub := &document{source: doc.source, number: doc.number, prefix: fmt.Sprintf("%sitems[%d].", doc.prefix, i), lines: map[string]int{"": w.line(item)}}
		inner := newWalk(d, sub, w.first)
		inner.spent, inner.nested, inner.kind = w.spent, w.nested+1, kind
		if inner.nested > 2 {
			inner.complain("", "want no more than a list of lists")
			return
		}
		d.object(sub, inner, item)
	}
}

// keep validates an object whose form is right.
func (d *decoder) keep(doc *document, w *walk, obj any) {
	before := len(d.problems) + d.omitted
	var kind, namespace, name string
	switch o := obj.(type) {
	case *corev1.Pod:
		setDefaults(o)
		kind, namespace, name = "pod", o.Namespace, o.Name
		d.validate(doc, validatePod(o))
		d.out.Pods = append(d.out.Pods, o)
	case *corev1.ConfigMap:
		setNamespace(&o.ObjectMeta)
		kind, namespace, name = "configmap", o.Namespace, o.Name
		d.validate(doc, validateConfigMap(o))
		d.out.ConfigMaps = append(d.out.ConfigMaps, o)
	case *corev1.Secret:
		setNamespace(&o.ObjectMeta)
		kind, namespace, name = "secret", o.Namespace, o.Name
		d.validate(doc, validateSecret(o))
		mergeStringData(o)
		d.out.Secrets = append(d.out.Secrets, o)
	}
	doc.name = kind + "/" + name
	d.out.places[obj] = doc
	if len(d.problems)+d.omitted > before {
		return
	}
	key := kind + "/" + namespace + "/" + name
	if kind == "pod" {
		key = kind + "/" + name // podbox's pods have no namespaces
	}
	if first := d.seen[key]; first != nil {
		d.complain(doc.problem("metadata.name", fmt.Sprintf("%q: there is one of that name in %s, document %d", name, first.source, first.number)))
		return
	}
	d.seen[key] = doc
	if len(w.moot) > 0 {
		d.out.Notes = append(d.out.Notes, fmt.Sprintf("%s: no meaning on one machine: %s", doc.name, strings.Join(w.moot, ", ")))
	}
	for _, dropped := range w.dropped {
		d.out.Warnings = append(d.out.Warnings, dropped.Error())
	}
}

// mergeStringData does what the API server does when a Secret is written.
func mergeStringData(s *corev1.Secret) {
	if len(s.StringData) > 0 && s.Data == nil {
		s.Data = map[string][]byte{}
	}
	for k, v := range s.StringData {
		s.Data[k] = []byte(v)
	}
	s.StringData = nil
}
