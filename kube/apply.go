package kube

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/podbox/podbox/sandbox"
	"github.com/podbox/podbox/supervisor"
	"github.com/podbox/podbox/volumes"
)

// Options are what Apply and Delete work with.
type Options struct {
	Runtime    *sandbox.Runtime
	Supervisor supervisor.Options
	Images     Images
	// Say is told of each object, a line when it is done: pod/web created. Note is told
	// what people should know besides. Both may be nil, and are not called at once.
	Say, Note func(line string)
}

func (o *Options) say(format string, args ...any) {
	if o.Say != nil {
		o.Say(fmt.Sprintf(format, args...))
	}
}

func (o *Options) note(lines ...string) {
	for _, l := range lines {
		if o.Note != nil {
			o.Note(l)
		}
	}
}

// ApplyOptions say how to apply. The zero value makes and changes what can be, and does not
// wait.
type ApplyOptions struct {
	// DryRun tells what would be done, and does nothing.
	DryRun bool
	// Replace removes pods that cannot be changed, and makes them anew.
	Replace bool
	// Wait is how long to wait until each pod is ready or has ended well. 0: not at
	// all. Negative: without end.
	Wait time.Duration
}

// Apply makes what manifests describe, or changes what is there of the same names. To apply
// the same again does nothing. Before all is found to be right, images that are to be fetched
// included, nothing is made; what fails after that leaves what Delete removes.
//
// ErrImmutable is matched if a pod would have to be made anew and opts do not say so.
func Apply(ctx context.Context, m *Manifests, o Options, opts ApplyOptions) error {
	a := &applier{Options: o, opts: opts, m: m, state: openState(o.Runtime)}
	o.note(m.Warnings...)
	o.note(m.Notes...)
	plan, err := a.plan()
	if err != nil {
		return err
	}
	for _, p := range plan {
		a.note(p.notes...)
	}
	if len(m.Secrets) > 0 && a.state.onDisk() {
		a.note(fmt.Sprintf("secrets are kept in %s, which is on a disk: want a tmpfs", a.state.dir))
	}
	if opts.DryRun {
		return a.tell(plan)
	}
	images := map[string]imageSet{}
	for _, p := range plan {
		if !p.make {
			continue
		}
		set, err := ensure(ctx, o.Images, p.pod, p.secrets)
		if err != nil {
			return err
		}
		if err := p.settle(set); err != nil {
			return err
		}
		images[p.pod.Name] = set
	}
	if err := a.objects(ctx); err != nil {
		return err
	}
	for _, p := range plan {
		if err := a.pod(ctx, p.pod, images[p.pod.Name]); err != nil {
			return err
		}
	}
	if err := a.refresh(ctx); err != nil {
		return err
	}
	return a.wait(ctx)
}

type applier struct {
	Options
	opts  ApplyOptions
	m     *Manifests
	state state
}

// A podPlan is what is to be done to one pod.
type podPlan struct {
	*translation
	make    bool     // it is not there, or not whole, or to be replaced
	remove  bool     // what is there
	changed []string // paths that are changed in place
	files   bool     // volumes of files are updated
	had     *applied
	there   *sandbox.Sandbox
	secrets [][]byte // of imagePullSecrets
}

// verb is what the plan does to a pod.
func (p *podPlan) verb() string {
	switch {
	case p.remove && p.had != nil:
		return "replaced"
	case p.make:
		return "created"
	case len(p.changed) > 0 || p.files:
		return "configured"
	}
	return "unchanged"
}

// plan looks at all that is to be applied and at what there is, and changes nothing. Its
// error is all that is wrong.
func (a *applier) plan() ([]*podPlan, error) {
	known, err := a.state.load()
	if err != nil {
		return nil, err
	}
	errs := a.immutableObjects(known)
	var plan []*podPlan
	for _, pod := range a.m.Pods {
		p, err := a.podPlan(pod, known.with(a.m))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		plan = append(plan, p)
	}
	return plan, errors.Join(errs...)
}

// immutableObjects are changes of ConfigMaps and Secrets that said that they would not be.
func (a *applier) immutableObjects(known *objects) []error {
	var errs []error
	for _, c := range a.m.ConfigMaps {
		if old := known.configMaps[key(c.Namespace, c.Name)]; old != nil && is(old.Immutable) && !sameConfigMap(old, c) {
			errs = append(errs, a.m.places[c].problem("immutable", fmt.Sprintf("ConfigMap %q says so: %v", c.Name, ErrImmutable)))
		}
	}
	for _, c := range a.m.Secrets {
		if old := known.secrets[key(c.Namespace, c.Name)]; old != nil && is(old.Immutable) && !sameSecret(old, c) {
			errs = append(errs, a.m.places[c].problem("immutable", fmt.Sprintf("Secret %q says so: %v", c.Name, ErrImmutable)))
		}
	}
	return errs
}

// podPlan finds out what is to be done to one pod.
func (a *applier) podPlan(pod *corev1.Pod, o *objects) (*podPlan, error) {
	w, err := look(a.Runtime, o)
	if err != nil {
		return nil, err
	}
	p := &podPlan{translation: newTranslation(pod, w), make: true}
	if err := a.compare(p); err != nil {
		return nil, err
	}
	if p.uid == "" {
		p.uid = uuid.NewString()
	}
	spec := p.sandbox()
	p.secrets = p.pullSecrets()
	for _, pl := range places(&pod.Spec) {
		// Of the image nothing is known yet, nor of addresses: what does not hang
		// on them is looked at.
		p.container(pl, ImageConfig{Entrypoint: []string{"/"}})
	}
	if p.had != nil {
		p.files = !maps.Equal(p.had.Files, digests(spec.Volumes))
	}
	var errs []error
	if len(p.list) == 0 {
		if err := spec.Validate(); err != nil {
			errs = append(errs, a.m.places[pod].problem("spec", err.Error()))
		}
	}
	seen := map[fault]bool{}
	for _, f := range p.list {
		if !seen[f] {
			errs = append(errs, a.m.places[pod].problem(f.path, f.text))
		}
		seen[f] = true
	}
	return p, errors.Join(errs...)
}

// compare finds out what there is of a pod, and how it differs from what it shall be.
func (a *applier) compare(p *podPlan) error {
	there, err := a.Runtime.Open(p.pod.Name)
	if errors.Is(err, sandbox.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	info, err := there.Info()
	if errors.Is(err, sandbox.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Name != p.pod.Name {
		return nil // the name is the beginning of another pod's ID
	}
	doc := a.m.places[p.pod]
	had, err := readApplied(there)
	if err != nil {
		return err
	}
	status, err := supervisor.Open(there, a.Supervisor).Status()
	if err != nil {
		return err
	}
	p.there = there
	if had == nil || status == nil {
		if info.Annotations[uidAnnotation] == "" {
			return doc.problem("metadata.name", fmt.Sprintf("%q: there is a pod of that name that was not applied", p.pod.Name))
		}
		p.remove = true // somebody was killed as he made it
		return nil
	}
	p.had, p.make, p.uid = had, false, had.UID
	if had.Pod.Namespace != p.pod.Namespace {
		return doc.problem("metadata.namespace", fmt.Sprintf("%q: the pod of that name is in namespace %s, and names of pods are for all", p.pod.Namespace, had.Pod.Namespace))
	}
	var fixed []error
	p.changed = changes(had.Pod, p.pod)
	for _, path := range p.changed {
		if !changeable(path) {
			fixed = append(fixed, &immutableError{doc.problem(path, ErrImmutable.Error())})
		}
	}
	switch {
	case len(fixed) == 0:
	case a.opts.Replace:
		p.make, p.remove, p.uid = true, true, ""
	default:
		return errors.Join(fixed...)
	}
	return nil
}

// An immutableError says what cannot be changed.
type immutableError struct{ *Problem }

func (e *immutableError) Is(target error) bool { return target == ErrImmutable || e.Problem.Is(target) }

// settle looks at what hangs on the images.
func (p *podPlan) settle(set imageSet) error {
	var errs []error
	for _, pl := range places(&p.pod.Spec) {
		if _, err := p.onImage(pl, set); err != nil {
			errs = append(errs, fmt.Errorf("pod %q: %s: %w", p.pod.Name, pl.at, err))
		}
	}
	return errors.Join(errs...)
}

// onImage returns what a container shall be, whose image is there.
func (t *translation) onImage(pl place, set imageSet) (supervisor.Spec, error) {
	image := set[pl.c.Image]
	config := image.Config()
	s := t.container(pl, config)
	if len(s.OCI.Process.Args) == 0 || s.OCI.Process.Args[0] == "" {
		return s, errNoCommand
	}
	u, err := t.user(pl, config)
	if err != nil {
		return s, err
	}
	if err := t.mountImages(pl, &s, set); err != nil {
		return s, err
	}
	return s, image.Settle(&s, u)
}

// tell says what would be done.
func (a *applier) tell(plan []*podPlan) error {
	known, err := a.state.load()
	if err != nil {
		return err
	}
	for _, c := range a.m.ConfigMaps {
		a.say("configmap/%s %s (dry run)", c.Name, verbOf(known.configMaps[key(c.Namespace, c.Name)], c, sameConfigMap))
	}
	for _, c := range a.m.Secrets {
		a.say("secret/%s %s (dry run)", c.Name, verbOf(known.secrets[key(c.Namespace, c.Name)], c, sameSecret))
	}
	for _, p := range plan {
		if p.make {
			for _, u := range imagesOf(p.pod) {
				a.say("image %s, %s (dry run)", u.ref, u.policy)
			}
		}
		a.say("pod/%s %s (dry run)", p.pod.Name, p.verb())
	}
	return nil
}

// objects writes ConfigMaps and Secrets.
func (a *applier) objects(ctx context.Context) error {
	if len(a.m.ConfigMaps)+len(a.m.Secrets) == 0 {
		return nil
	}
	lock, err := a.state.lock(ctx, "objects")
	if err != nil {
		return err
	}
	defer lock.Close()
	a.state.sweep()
	known, err := a.state.load()
	if err != nil {
		return err
	}
	if err := errors.Join(a.immutableObjects(known)...); err != nil {
		return err
	}
	for _, c := range a.m.ConfigMaps {
		verb := verbOf(known.configMaps[key(c.Namespace, c.Name)], c, sameConfigMap)
		if verb != unchanged {
			if err := a.state.write(configMapDir, c.Namespace, c.Name, c); err != nil {
				return fmt.Errorf("configmap %q: %w", c.Name, err)
			}
		}
		a.say("configmap/%s %s", c.Name, verb)
	}
	for _, c := range a.m.Secrets {
		verb := verbOf(known.secrets[key(c.Namespace, c.Name)], c, sameSecret)
		if verb != unchanged {
			if err := a.state.write(secretDir, c.Namespace, c.Name, c); err != nil {
				return fmt.Errorf("secret %q: %w", c.Name, err)
			}
		}
		a.say("secret/%s %s", c.Name, verb)
	}
	return nil
}

const unchanged = "unchanged"

func verbOf[T any](old, now *T, same func(a, b *T) bool) string {
	switch {
	case old == nil:
		return "created"
	case same(old, now):
		return unchanged
	}
	return "configured"
}

// pod makes or changes one pod. It looks again, under the pod's lock: much may have
// happened while images were fetched.
func (a *applier) pod(ctx context.Context, pod *corev1.Pod, set imageSet) error {
	lock, err := a.state.lock(ctx, "pod."+pod.Name)
	if err != nil {
		return err
	}
	defer lock.Close()
	known, err := a.state.load()
	if err != nil {
		return err
	}
	p, err := a.podPlan(pod, known.with(a.m))
	if err != nil {
		return err
	}
	if p.make && set == nil { // it was removed meanwhile
		if set, err = ensure(ctx, a.Images, pod, p.secrets); err != nil {
			return err
		}
	}
	if p.remove {
		if err := supervisor.Open(p.there, a.Supervisor).Remove(ctx, sandbox.StopOptions{}); err != nil {
			return err
		}
	}
	verb := p.verb()
	switch {
	case p.make:
		err = a.create(ctx, p, set)
	case verb != unchanged:
		err = a.change(ctx, p)
	}
	if err == nil && !p.make {
		err = a.goOn(ctx, p.there)
	}
	if err != nil {
		return err
	}
	a.say("pod/%s %s", pod.Name, verb)
	return nil
}

// goOn has the containers of a pod that runs led on, whoever was killed that led them, or
// was about to have them led.
func (a *applier) goOn(ctx context.Context, there *sandbox.Sandbox) error {
	info, err := there.Info()
	if err != nil || info.State != sandbox.Running {
		return err
	}
	return supervisor.Open(there, a.Supervisor).GoOn(ctx)
}

// create makes a pod and has its containers led. If it fails there is none.
func (a *applier) create(ctx context.Context, p *podPlan, set imageSet) (err error) {
	spec := p.sandbox()
	spec.Annotations = annotations(p.pod, p.uid)
	made, err := a.Runtime.Create(ctx, spec)
	if err != nil {
		return err
	}
	pod := supervisor.Open(made, a.Supervisor)
	defer func() {
		if err != nil {
			// Whatever was the matter with ctx, nothing is to be left.
			err = errors.Join(err, pod.Remove(context.WithoutCancel(ctx), sandbox.StopOptions{Grace: -1}))
		}
	}()
	info, err := made.Info()
	if err != nil {
		return err
	}
	if err := useVolumes(ctx, p.pod, made, set); err != nil {
		return err
	}
	p.podIPs = nil
	for _, ip := range []string{info.IP, info.IP6} {
		if ip != "" {
			p.podIPs = append(p.podIPs, ip)
		}
	}
	if p.pod.Spec.HostNetwork {
		p.podIPs = p.hostIPs
	}
	var containers []supervisor.Spec
	for _, pl := range places(&p.pod.Spec) {
		s, err := p.onImage(pl, set)
		if err != nil {
			return fmt.Errorf("pod %q: %s: %w", p.pod.Name, pl.at, err)
		}
		containers = append(containers, s)
	}
	record := &applied{Version: appliedVersion, UID: p.uid, Pod: p.pod, Files: digests(spec.Volumes)}
	if err := record.write(made); err != nil {
		return err
	}
	return pod.Lead(ctx, p.life(), containers)
}

func annotations(pod *corev1.Pod, uid string) map[string]string {
	all := maps.Clone(pod.Annotations)
	if all == nil {
		all = map[string]string{}
	}
	all[uidAnnotation] = uid
	return all
}

// change does to a pod what can be done while it is there.
func (a *applier) change(ctx context.Context, p *podPlan) error {
	spec := p.sandbox()
	if len(p.changed) > 0 {
		had, err := p.there.Info()
		if err != nil {
			return err
		}
		labels := make(map[string]*string)
		for k := range had.Labels {
			labels[k] = nil
		}
		for k, v := range spec.Labels {
			labels[k] = &v
		}
		err = p.there.Update(ctx, sandbox.Change{
			Labels: labels, Annotations: annotations(p.pod, p.uid), Bandwidth: &spec.Bandwidth, Policy: &spec.Policy,
		})
		if err != nil {
			return err
		}
	}
	if err := a.updateFiles(ctx, p.there, p.had, spec); err != nil {
		return err
	}
	record := &applied{Version: appliedVersion, UID: p.uid, Pod: p.pod, Files: digests(spec.Volumes)}
	return record.write(p.there)
}

// updateFiles updates those volumes that are not as they were applied.
func (a *applier) updateFiles(ctx context.Context, pod *sandbox.Sandbox, had *applied, spec sandbox.Spec) error {
	now := digests(spec.Volumes)
	vs := slices.Clone(spec.Volumes)
	vs = slices.DeleteFunc(vs, func(v volumes.Volume) bool { return v.Files == nil || had.Files[v.Name] == now[v.Name] })
	if len(vs) == 0 {
		return nil
	}
	return pod.UpdateFiles(ctx, vs)
}

// refresh brings ConfigMaps and Secrets that have changed to the volumes of the pods that
// were applied before. Those of which one is gone keep what they have.
func (a *applier) refresh(ctx context.Context) error {
	if len(a.m.ConfigMaps)+len(a.m.Secrets) == 0 {
		return nil
	}
	list, err := a.Runtime.List(ctx)
	if err != nil {
		return err
	}
	known, err := a.state.load()
	if err != nil {
		return err
	}
	var errs []error
	for _, info := range list {
		own := slices.ContainsFunc(a.m.Pods, func(p *corev1.Pod) bool { return p.Name == info.Name })
		if own || info.Annotations[uidAnnotation] == "" {
			continue
		}
		errs = append(errs, a.refreshPod(ctx, info.Name, known))
	}
	return errors.Join(errs...)
}

func (a *applier) refreshPod(ctx context.Context, name string, known *objects) error {
	lock, err := a.state.lock(ctx, "pod."+name)
	if err != nil {
		return err
	}
	defer lock.Close()
	pod, err := a.Runtime.Open(name)
	if errors.Is(err, sandbox.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	had, err := readApplied(pod)
	if err != nil || had == nil {
		return err
	}
	w, err := look(a.Runtime, known)
	if err != nil {
		return err
	}
	w.uid = had.UID
	t := newTranslation(had.Pod, w)
	spec := t.sandbox()
	now := digests(spec.Volumes)
	if len(t.list) > 0 || maps.Equal(now, had.Files) {
		return nil
	}
	if err := a.updateFiles(ctx, pod, had, spec); err != nil {
		return err
	}
	had.Files = now
	if err := had.write(pod); err != nil {
		return err
	}
	a.say("pod/%s configured", name)
	return nil
}

// wait waits until all pods are ready or have ended well.
func (a *applier) wait(ctx context.Context) error {
	if a.opts.Wait == 0 {
		return nil
	}
	if a.opts.Wait > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, a.opts.Wait, fmt.Errorf("not ready after %v", a.opts.Wait))
		defer cancel()
	}
	for _, p := range a.m.Pods {
		if err := a.waitFor(ctx, p.Name); err != nil {
			return fmt.Errorf("wait for pod %q: %w", p.Name, err)
		}
	}
	return nil
}

func (a *applier) waitFor(ctx context.Context, name string) error {
	pod, err := a.Runtime.Open(name)
	if err != nil {
		return err
	}
	var last *supervisor.PodStatus
	err = supervisor.Open(pod, a.Supervisor).Await(ctx, func(s *supervisor.PodStatus) (bool, error) {
		last = s
		switch {
		case s == nil:
			return false, sandbox.ErrNotRunning
		case s.Phase == "Failed":
			return false, fmt.Errorf("it has failed%s", because(s))
		}
		return s.Phase == "Succeeded" || isReady(s), nil
	})
	if err != nil && ctx.Err() != nil && last != nil {
		return fmt.Errorf("%w: it is %s%s", context.Cause(ctx), last.Phase, because(last))
	}
	return err
}

func isReady(s *supervisor.PodStatus) bool {
	return slices.ContainsFunc(s.Conditions, func(c supervisor.Condition) bool { return c.Type == "Ready" && c.Status == "True" })
}

// because tells what is known of why a pod is not ready.
func because(s *supervisor.PodStatus) string {
	words := []string{s.Reason, s.Message}
	for _, c := range slices.Concat(s.InitContainerStatuses, s.ContainerStatuses) {
		switch {
		case c.State.Waiting != nil && c.State.Waiting.Reason != "" && c.State.Waiting.Reason != "PodInitializing":
			words = append(words, fmt.Sprintf("container %q: %s %s", c.Name, c.State.Waiting.Reason, c.State.Waiting.Message))
		case c.State.Terminated != nil && c.State.Terminated.ExitCode != 0:
			words = append(words, fmt.Sprintf("container %q: %s, exit status %d %s", c.Name, c.State.Terminated.Reason, c.State.Terminated.ExitCode, c.State.Terminated.Message))
		}
	}
	words = slices.DeleteFunc(words, func(w string) bool { return w == "" })
	if len(words) == 0 {
		return ""
	}
	return ": " + strings.Join(strings.Fields(strings.Join(words, "; ")), " ")
}

func sameConfigMap(a, b *corev1.ConfigMap) bool { return equality.Semantic.DeepEqual(a, b) }
func sameSecret(a, b *corev1.Secret) bool       { return equality.Semantic.DeepEqual(a, b) }
