package supervisor

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/podbox/podbox/sandbox"
)

// A PodStatus is how the containers are that a pod leads, in the words of Kubernetes:
// the names and values of its fields are those of a PodStatus there.
type PodStatus struct {
	Phase      string      `json:"phase"` // Pending, Running, Succeeded or Failed
	Conditions []Condition `json:"conditions"`
	Reason     string      `json:"reason,omitempty"`
	Message    string      `json:"message,omitempty"`
	PodIP      string      `json:"podIP,omitempty"`
	PodIPs     []PodIP     `json:"podIPs,omitempty"`
	StartTime  time.Time   `json:"startTime,omitzero"`

	InitContainerStatuses []ContainerStatus `json:"initContainerStatuses,omitempty"`
	ContainerStatuses     []ContainerStatus `json:"containerStatuses"`
}

// A Condition is something that holds of the pod, or does not.
type Condition struct {
	Type    string `json:"type"`
	Status  string `json:"status"` // True or False
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
}

// A PodIP is an address of the pod.
type PodIP struct {
	IP string `json:"ip"`
}

// A ContainerStatus is how one of the containers is.
type ContainerStatus struct {
	Name         string         `json:"name"`
	State        ContainerState `json:"state"`
	LastState    ContainerState `json:"lastState"`
	Ready        bool           `json:"ready"`
	RestartCount int            `json:"restartCount"`
	Image        string         `json:"image"`
	ImageID      string         `json:"imageID"`
	ContainerID  string         `json:"containerID,omitempty"`
	Started      bool           `json:"started"`
}

// A ContainerState has one of its fields set, or none of a container that has never
// ended.
type ContainerState struct {
	Waiting    *Waiting    `json:"waiting,omitempty"`
	Running    *RunningNow `json:"running,omitempty"`
	Terminated *Terminated `json:"terminated,omitempty"`
}

// Waiting is the state of a container that has not started, or will start again.
type Waiting struct {
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
}

// RunningNow is the state of a container that runs.
type RunningNow struct {
	StartedAt time.Time `json:"startedAt"`
}

// Terminated is the state of a container that has ended.
type Terminated struct {
	ExitCode    int       `json:"exitCode"`
	Signal      int       `json:"signal,omitempty"`
	Reason      string    `json:"reason,omitempty"`
	Message     string    `json:"message,omitempty"`
	StartedAt   time.Time `json:"startedAt"`
	FinishedAt  time.Time `json:"finishedAt"`
	ContainerID string    `json:"containerID,omitempty"`
}

// Status looks at the containers that the pod leads; nil if it leads none.
func (p *Pod) Status() (*PodStatus, error) {
	life, err := p.life()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("status of %v: %w", p, err)
	}
	info, err := p.Info()
	if err != nil {
		return nil, err
	}
	s := &PodStatus{Reason: life.Reason, Message: life.Message, StartTime: life.Started, PodIP: cmp.Or(info.IP, info.IP6)}
	for _, ip := range []string{info.IP, info.IP6} {
		if ip != "" {
			s.PodIPs = append(s.PodIPs, PodIP{ip})
		}
	}
	recs, err := p.records()
	if err != nil {
		return nil, fmt.Errorf("status of %v: %w", p, err)
	}
	v := view{p, life, recs}
	v.judge(s, info.State == sandbox.Running || info.State == sandbox.Paused)
	return s, nil
}

// A view is what the status of a pod is made of.
type view struct {
	pod  *Pod
	life *lifeRecord
	recs []*record
}

// find returns the record of a container; nil if it was removed.
func (v *view) find(name string) *record {
	i := slices.IndexFunc(v.recs, func(r *record) bool { return r.Spec.Name == name })
	if i < 0 {
		return nil
	}
	return v.recs[i]
}

// judge fills in what the containers say. up says that the pod has its namespaces.
func (v *view) judge(s *PodStatus, up bool) {
	var all tally
	for _, name := range v.life.Life.Init {
		if r := v.find(name); r != nil {
			c := v.container(r)
			s.InitContainerStatuses = append(s.InitContainerStatuses, c)
			all.addInit(c, r)
		}
	}
	for _, name := range v.life.Life.Containers {
		if r := v.find(name); r != nil {
			c := v.container(r)
			s.ContainerStatuses = append(s.ContainerStatuses, c)
			all.add(c, r.State != Exited && !v.life.Done)
		}
	}
	s.Phase = all.phase(v.life)
	s.conditions(&all, up)
}

// A tally counts containers by what matters for the phase of their pod and its conditions.
type tally struct {
	running    int      // of any kind
	initFailed bool     // an init container has, for good
	pending    bool     // an init container is still to end, or to start
	sidecars   bool     // a sidecar is still to start
	started    bool     // a container that is not of Life.Init has been, at some time
	waiting    int      // of these, those that have not been started yet
	restarting int      // and those that will be again
	ended, bad int      // and those that have ended
	unready    []string // containers that are to be ready and are not
	incomplete []string // what the others wait for
}

// addInit counts a container of Life.Init.
func (t *tally) addInit(c ContainerStatus, r *record) {
	running, ended := c.State.Running != nil, c.State.Terminated != nil || c.LastState.Terminated != nil
	if running {
		t.running++
	}
	switch {
	case r.Spec.Sidecar:
		t.sidecars = t.sidecars || running && !c.Started || !running && !ended
		if !c.Ready {
			t.unready = append(t.unready, c.Name)
		}
		if !c.Started {
			t.incomplete = append(t.incomplete, c.Name)
		}
	case !c.Ready:
		t.incomplete = append(t.incomplete, c.Name)
		t.initFailed = t.initFailed || r.State == Exited
		t.pending = t.pending || r.State != Exited
	}
}

// add counts one of the others. again says that it will be started again when it has ended.
func (t *tally) add(c ContainerStatus, again bool) {
	switch {
	case c.State.Running != nil:
		t.running++
		t.started = true
	case c.State.Terminated != nil || c.LastState.Terminated != nil:
		t.started = true
		t.ended++
		if again {
			t.restarting++
		} else if e := c.State.Terminated; e == nil || e.ExitCode != 0 {
			t.bad++
		}
	default:
		t.waiting++
	}
	if !c.Ready {
		t.unready = append(t.unready, c.Name)
	}
}

// phase is that of the pod. Like the kubelet's it is not the last one while a container
// runs.
func (t *tally) phase(l *lifeRecord) string {
	now := "Running"
	if t.pending || t.sidecars && !t.started || t.waiting > 0 || !t.started && !l.Done {
		now = "Pending"
	}
	failed := l.Reason != "" || t.initFailed
	switch {
	case t.running > 0 || !failed && (now == "Pending" || t.restarting > 0):
		return now
	case failed || t.bad > 0:
		return "Failed"
	}
	return "Succeeded"
}

// conditions are those of a pod, as the kubelet has them. up says that it has its
// namespaces.
func (s *PodStatus) conditions(all *tally, up bool) {
	condition := func(name string, holds bool, reason, message string) {
		c := Condition{name, "True", reason, message}
		if !holds {
			c.Status = "False"
		}
		s.Conditions = append(s.Conditions, c)
	}
	condition("PodReadyToStartContainers", up, "", "")
	switch {
	case s.Phase == "Succeeded":
		condition("Initialized", true, "PodCompleted", "")
	case len(all.incomplete) == 0 || all.started:
		condition("Initialized", true, "", "")
	default:
		condition("Initialized", false, "ContainersNotInitialized", fmt.Sprintf("containers with incomplete status: %v", all.incomplete))
	}
	for _, name := range []string{"Ready", "ContainersReady"} {
		switch {
		case s.Phase == "Succeeded":
			condition(name, false, "PodCompleted", "")
		case s.Phase == "Failed":
			condition(name, false, "PodFailed", "")
		case len(all.unready) > 0:
			condition(name, false, "ContainersNotReady", fmt.Sprintf("containers with unready status: %v", all.unready))
		default:
			condition(name, true, "", "")
		}
	}
	condition("PodScheduled", true, "", "")
}

// container is how one container is.
func (v *view) container(r *record) ContainerStatus {
	c := &Container{pod: v.pod, name: r.Spec.Name}
	live := c.status(r)
	running := live.State == Running || live.State == Paused
	s := ContainerStatus{
		Name: r.Spec.Name, RestartCount: r.Restarts, Image: r.Spec.About.Image, ImageID: r.Spec.About.ImageID,
		ContainerID: "podbox://" + r.ID, Started: running && r.Up,
	}
	isInit := slices.Contains(v.life.Life.Init, r.Spec.Name) && !r.Spec.Sidecar
	s.Ready = running && r.Up && r.Ready && !isInit || isInit && r.succeeded()
	if r.Last != nil {
		s.LastState.Terminated = r.Last.terminated(s.ContainerID)
	}
	switch {
	case running && r.Process.PID != 0 && !(r.Spec.PostStart != nil && !r.Hooked):
		s.State.Running = &RunningNow{r.Started}
	case live.State == Restarting:
		// How it has ended last is on record as its end until it starts.
		s.LastState.Terminated = r.ending().terminated(s.ContainerID)
		s.State.Waiting = &Waiting{"CrashLoopBackOff", fmt.Sprintf("back-off restarting failed container %s: next start at %s", r.Spec.Name, r.Next.Format(time.RFC3339))}
		if r.Reason == startError { // nothing else tells why
			s.State.Waiting.Message += ": " + r.Message
		}
	case live.State == Exited:
		s.State.Terminated = r.ending().terminated(s.ContainerID)
	case len(v.life.Life.Init) > 0: // whatever it waits for: so the kubelet has it
		s.State.Waiting = &Waiting{Reason: "PodInitializing"}
	default:
		s.State.Waiting = &Waiting{Reason: "ContainerCreating"}
	}
	return s
}

// ending is how the container has ended, if it has.
func (r *record) ending() *ending {
	return &ending{r.Started, r.Finished, r.ExitCode, r.OOM, r.Reason, r.Message}
}

func (e *ending) terminated(id string) *Terminated {
	t := &Terminated{
		ExitCode: 137, Reason: e.Reason, Message: e.Message, StartedAt: e.Started, FinishedAt: e.Finished, ContainerID: id,
	}
	if e.ExitCode != nil {
		t.ExitCode = *e.ExitCode
	} else if t.Reason == "" {
		// What the kubelet says when nobody knows.
		t.Reason, t.Message = "ContainerStatusUnknown", "The container could not be located when the pod was terminated"
	}
	switch {
	case t.Reason != "":
	case e.OOM:
		t.Reason = "OOMKilled"
	case t.ExitCode == 0:
		t.Reason = "Completed"
	default:
		t.Reason = "Error"
	}
	return t
}
