package kube

import (
	"net"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/podbox/podbox/sandbox"
)

// seccompDir is where the kubelet looks for profiles by default.
const seccompDir = "/var/lib/kubelet/seccomp"

// look finds out what of the world does not depend on a pod.
func look(rt *sandbox.Runtime, o *objects) (world, error) {
	w := world{
		profiles:  seccompDir,
		hostIPs:   hostIPs(),
		configMap: func(namespace, name string) *corev1.ConfigMap { return o.configMaps[key(namespace, name)] },
		secret:    func(namespace, name string) *corev1.Secret { return o.secrets[key(namespace, name)] },
	}
	var err error
	if w.node, err = os.Hostname(); err != nil {
		return w, err
	}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return w, os.NewSyscallError("sysinfo", err)
	}
	w.capacity = corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewQuantity(int64(runtime.NumCPU()), resource.DecimalSI),
		corev1.ResourceMemory: *resource.NewQuantity(int64(info.Totalram)*int64(info.Unit), resource.BinarySI),
	}
	var st unix.Statfs_t
	for _, dir := range []string{rt.StateDir(), "/"} {
		if unix.Statfs(dir, &st) == nil {
			w.capacity[corev1.ResourceEphemeralStorage] = *resource.NewQuantity(int64(st.Blocks)*st.Bsize, resource.BinarySI)
			break
		}
	}
	return w, nil
}

// hostIPs returns an address of each family by which the host is known, if it has any but
// those of its loopback and its links to pods.
func hostIPs() []string {
	links, err := net.Interfaces()
	if err != nil {
		return nil
	}
	var v4, v6 string
	for _, l := range links {
		if l.Flags&net.FlagUp == 0 || l.Flags&net.FlagLoopback != 0 || strings.HasPrefix(l.Name, "pbx") {
			continue
		}
		addrs, _ := l.Addrs()
		for _, a := range addrs {
			ip, ok := a.(*net.IPNet)
			switch {
			case !ok || !ip.IP.IsGlobalUnicast():
			case ip.IP.To4() != nil && v4 == "":
				v4 = ip.IP.String()
			case ip.IP.To4() == nil && v6 == "":
				v6 = ip.IP.String()
			}
		}
	}
	var out []string
	for _, ip := range []string{v4, v6} {
		if ip != "" {
			out = append(out, ip)
		}
	}
	return out
}
