package supervisor

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"
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
	v.judge(s)
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

// judge fills in what the containers say.
func (v *view) judge(s *PodStatus) {
	initialised, failed := true, false
	for _, name := range v.life.Life.Init {
		r := v.find(name)
		if r == nil {
			continue
		}
		s.InitContainerStatuses = append(s.InitContainerStatuses, v.container(r, initialised))
		switch {
		case r.Spec.Sidecar:
			initialised = initialised && (r.Up || v.life.Done || r.State == Restarting || r.Restarts > 0)
		case !r.succeeded():
			initialised = false
			failed = failed || v.life.Done && r.State == Exited
		}
	}
	all := tally{}
	for _, name := range v.life.Life.Containers {
		r := v.find(name)
		if r == nil {
			continue
		}
		c := v.container(r, initialised)
		s.ContainerStatuses = append(s.ContainerStatuses, c)
		all.add(c)
	}
	switch {
	case s.Reason != "" || failed:
		s.Phase = "Failed"
	case !initialised || all.waiting > 0:
		s.Phase = "Pending"
	case all.alive > 0 || !v.life.Done && all.ended > 0 && !v.allAtRest():
		s.Phase = "Running"
	case all.bad > 0:
		s.Phase = "Failed"
	default:
		s.Phase = "Succeeded"
	}
	s.conditions(initialised, all)
}

// allAtRest reports whether no container will be started again.
func (v *view) allAtRest() bool {
	for _, name := range v.life.Life.Containers {
		if r := v.find(name); r != nil && r.State != Exited {
			return false
		}
	}
	return true
}

// A tally counts containers by what matters for the phase of their pod.
type tally struct {
	waiting, alive, ended, bad int
	unready                    []string
}

func (t *tally) add(c ContainerStatus) {
	switch {
	case c.State.Terminated != nil:
		t.ended++
		if c.State.Terminated.ExitCode != 0 {
			t.bad++
		}
	case c.State.Running != nil || c.RestartCount > 0 || c.LastState.Terminated != nil:
		t.alive++
	default:
		t.waiting++
	}
	if !c.Ready {
		t.unready = append(t.unready, c.Name)
	}
}

// conditions are those of a pod, as the kubelet has them.
func (s *PodStatus) conditions(initialised bool, all tally) {
	condition := func(name string, holds bool, reason, message string) {
		c := Condition{Type: name, Status: "True"}
		if !holds {
			c = Condition{name, "False", reason, message}
		}
		s.Conditions = append(s.Conditions, c)
	}
	reason, message := "ContainersNotReady", fmt.Sprintf("containers with unready status: %v", all.unready)
	if s.Phase == "Succeeded" || s.Phase == "Failed" {
		if reason = "PodFailed"; s.Phase == "Succeeded" {
			reason = "PodCompleted"
		}
		message = ""
	}
	ready := len(all.unready) == 0 && initialised && s.Phase == "Running"
	condition("PodReadyToStartContainers", true, "", "")
	condition("Initialized", initialised || s.Phase == "Succeeded", "ContainersNotInitialized", "containers with incomplete status")
	condition("Ready", ready, reason, message)
	condition("ContainersReady", ready, reason, message)
	condition("PodScheduled", true, "", "")
}

// container is how one container is. initialised says that those before it are done.
func (v *view) container(r *record, initialised bool) ContainerStatus {
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
	case live.State == Exited:
		s.State.Terminated = r.ending().terminated(s.ContainerID)
	case !initialised:
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
