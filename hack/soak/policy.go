//go:build linux

package main

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/netns"
)

// allowances are the words for those who may connect, and who may be connected to.
var allowances = []string{
	"any", "none", "host", "label:team=red", "label:team=red:80", "label:team=blue:80/udp",
	"soak-all-0", "soak-all-1:80", otherIP, "192.0.2.0/24:80", "[2001:db8:500::/64]:80", "10.88.0.0/16:80-90/udp",
}

// policyFlags are flags of create and update.
func (w *worker) policyFlags() []string {
	team := []string{"--label", "team=" + []string{"red", "blue"}[w.chance.IntN(2)]}
	switch w.chance.IntN(6) {
	case 0:
		return team
	case 1:
		return append(team, "--isolate", "team")
	}
	way := []string{"--allow-from", "--allow-from", "--allow-to"}[w.chance.IntN(3)]
	args := append(team, way, allowances[w.chance.IntN(len(allowances))])
	if more := allowances[w.chance.IntN(len(allowances))]; more != "none" && !slices.Contains(args, "none") { // which stands alone
		args = append(args, way, more)
	}
	return args
}

// changePolicy changes whom a pod may talk to, while it runs.
func (w *worker) changePolicy() {
	args := w.policyFlags()
	if w.chance.IntN(4) == 0 {
		args = [][]string{{"--allow-from", "any"}, {"--allow-to", "any"}, {"--isolate", ""}, {"--allow-from", "any", "--allow-to", "any", "--isolate", ""}}[w.chance.IntN(4)]
	}
	w.podbox(append(append([]string{"update"}, args...), w.pod())...)
}

// policed is what policies know of a pod that is on record.
func (r record) policed() *netns.Policed {
	p := &netns.Policed{Address: r.Address, Policy: r.Spec.Policy, Groups: netns.Groups(r.Spec.Name, r.Spec.Labels)}
	if key := p.Policy.Isolate; key != "" {
		p.Isolated = netns.LabelGroup(key, r.Spec.Labels[key])
	}
	return p
}

var protocols = map[netns.Protocol]byte{netns.TCP: unix.IPPROTO_TCP, netns.UDP: unix.IPPROTO_UDP}

// admits reports whether somebody beside the host may connect to a port of a pod.
func (w *world) admits(id string, from netip.Addr, port netns.Port) bool {
	r := w.records[id]
	to := r.Address.IP
	if from.Is6() {
		to = r.Address.IP6
	}
	return netns.Admits(netns.End{Addr: from}, netns.End{Addr: to, Pod: r.policed()}, protocols[port.Protocol], port.Port)
}

// policyInvariants hold once the rules have been made anew.
var policyInvariants = []invariant{{
	"policies", "a pod whose policy is not in the rules is open; one that is there without a policy is shut",
	func(_ *soak, w *world) (bad []string) {
		if w.policySets == nil {
			return nil // no pod needs rules
		}
		want := map[string]bool{}
		for _, r := range w.records {
			if r.Spec.Network.Mode != "pod" {
				continue
			}
			for family, addr := range map[string]netip.Addr{"4": r.Address.IP, "6": r.Address.IP6} {
				if !addr.IsValid() {
					continue
				}
				if r.Spec.Policy.From != nil {
					want["from"+family+" "+addr.String()] = true
				}
				if r.Spec.Policy.To != nil {
					want["to"+family+" "+addr.String()] = true
				}
			}
		}
		for key := range want {
			if !w.policySets[key] {
				bad = append(bad, key+" is not in the rules, and the pod's policy says it")
			}
		}
		for key := range w.policySets {
			if !want[key] {
				bad = append(bad, key+" is in the rules, and no policy says it")
			}
		}
		return bad
	},
}, {
	"shapers", "the link by which a limited pod sends is in the host, and the kernel does not remove it with the pod's",
	func(_ *soak, w *world) (bad []string) {
		of := make(map[string]record)
		for id, r := range w.records {
			of["pbs"+id[:12]] = r
		}
		for link := range w.shapers {
			// Of a pod whose pause was killed it stays until the pod is started or removed.
			if r, has := of[link]; !has || r.State == "stopped" {
				bad = append(bad, "link "+link+" is of no pod that runs")
			}
		}
		for id, p := range w.pods {
			r := w.records[id]
			if !p.runs() || p.Link == "" || r.Changing {
				continue
			}
			shaper := "pbs" + strings.TrimPrefix(p.Link, "pbx")
			if limits := r.Spec.Bandwidth.Egress != 0; limits != w.shapers[shaper] {
				bad = append(bad, fmt.Sprintf("pod %q sends at most %d: link %s: %v", p.Name, r.Spec.Bandwidth.Egress, shaper, w.shapers[shaper]))
			}
			if limits := r.Spec.Bandwidth.Ingress != 0; limits != w.buckets[p.Link] {
				bad = append(bad, fmt.Sprintf("pod %q receives at most %d: a bucket at %s: %v", p.Name, r.Spec.Bandwidth.Ingress, p.Link, w.buckets[p.Link]))
			}
		}
		return bad
	},
}}

// between connects from some pods to others, and makes sure that their policies decide.
func (s *soak) between(w *world, serves map[string]bool, chance *rand.Rand) error {
	var all []string
	for id, p := range w.pods {
		if p.State == "running" && p.Network == "pod" {
			all = append(all, id)
		}
	}
	slices.Sort(all)
	refused := 0
	for range 6 {
		if len(all) < 2 {
			return nil
		}
		from, to := all[chance.IntN(len(all))], all[chance.IntN(len(all))]
		if from == to || !serves[to] {
			continue
		}
		a, b := w.records[from], w.records[to]
		for _, ends := range [][2]netip.Addr{{a.Address.IP, b.Address.IP}, {a.Address.IP6, b.Address.IP6}} {
			protocol := []netns.Protocol{netns.TCP, netns.UDP}[chance.IntN(2)]
			admitted := netns.Admits(netns.End{Addr: ends[0], Pod: a.policed()}, netns.End{Addr: ends[1], Pod: b.policed()}, protocols[protocol], servedPort)
			if !admitted {
				if refused++; refused > 3 {
					continue // each is waited for
				}
			}
			ns, err := netns.Of(w.pauses[from][0])
			if err != nil {
				return err
			}
			question := func() (name string, err error) {
				derr := ns.Do(func() error {
					name, err = ask(string(protocol), netip.AddrPortFrom(ends[1], servedPort), patienceFor(admitted))
					return nil
				})
				if derr != nil {
					return "", derr
				}
				return name, err
			}
			err = expect(question, admitted, b.Spec.Name)
			ns.Close()
			if err != nil {
				return fmt.Errorf("from pod %q (%s, %v) to pod %q (%s, %v) by %s: %w", a.Spec.Name, policyText(a), a.Spec.Labels, b.Spec.Name, policyText(b), b.Spec.Labels, protocol, err)
			}
		}
	}
	return nil
}

func policyText(r record) string {
	p := r.Spec.Policy
	return "from " + strconv.Itoa(len(p.From)) + fmt.Sprint(p.From) + " to " + strconv.Itoa(len(p.To)) + fmt.Sprint(p.To) + " isolate " + p.Isolate
}

// patienceFor is how long an answer is waited for. What is refused is dropped.
func patienceFor(admitted bool) time.Duration {
	if admitted {
		return time.Second
	}
	return 60 * time.Millisecond
}

// expect asks until somebody answers, if that is to be. A server that was killed a moment ago has some seconds to be back.
func expect(question func() (string, error), answered bool, name string) error {
	for deadline := time.Now().Add(settleTime); ; time.Sleep(200 * time.Millisecond) {
		who, err := question()
		switch {
		case err == nil && !answered:
			return fmt.Errorf("%q answers, which is not allowed", who)
		case err == nil && who != name:
			return fmt.Errorf("%q answers, not %q", who, name)
		case err == nil || !answered:
			return nil
		case time.Now().After(deadline):
			return err
		}
	}
}
