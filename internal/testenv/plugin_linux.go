package testenv

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// pluginName is what the test program is called as a CNI plugin.
const pluginName = "fake"

// A Plugin is the configuration of a CNI plugin that is the test program itself; see
// [AsPlugin].
type Plugin struct {
	// Dir has a file for each attachment, as the leases of an address plugin; in its
	// directory log there is a file for each call, in order.
	Dir string `json:"dir"`
	// On says what goes wrong in which operation: fail, die, hang, flood, noise, garbage,
	// null, silent, strange.
	On map[string]string `json:"on,omitempty"`
	// Capabilities are those of the plugin.
	Capabilities map[string]bool `json:"capabilities,omitempty"`
	// IPs are what it gives, unless it is asked for others.
	IPs []string `json:"ips,omitempty"`
	// Taken are addresses that it refuses to give.
	Taken []string `json:"taken,omitempty"`
	// DNS is what it tells.
	DNS map[string]any `json:"dns,omitempty"`
}

// A PluginCall is what a plugin was told.
type PluginCall struct {
	Verb, Container, Interface, Netns string
	Env                               []string
	Stdin                             map[string]any
	FDs                               []string // descriptors, and what they are
	Inode                             string   // of Netns
}

// AsPlugin makes the test program a CNI plugin if it is called as one. It is called first
// thing in TestMain.
func AsPlugin() {
	if filepath.Base(os.Args[0]) != pluginName || os.Getenv("CNI_COMMAND") == "" {
		// One built by go test -race would sleep for a second before it ends.
		if _, set := os.LookupEnv("GORACE"); !set {
			os.Setenv("GORACE", "atexit_sleep_ms=0")
		}
		return
	}
	if err := plugin(os.Getenv("CNI_COMMAND")); err != nil {
		fmt.Printf(`{"cniVersion":"1.0.0","code":11,"msg":%q,"details":"told by fake"}`, err.Error())
		os.Exit(1)
	}
	os.Exit(0)
}

// PluginDir makes a directory of CNI plugins in which there is but the one.
func PluginDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	self, err := os.Executable()
	must(t, err)
	must(t, os.Symlink(self, filepath.Join(dir, pluginName)))
	return dir
}

// PluginConf writes the description of a network of such plugins into a directory.
func PluginConf(t testing.TB, dir, name, version string, plugins ...Plugin) {
	t.Helper()
	list := []any{}
	for _, p := range plugins {
		must(t, os.MkdirAll(filepath.Join(p.Dir, "log"), 0o700))
		var m map[string]any
		b, err := json.Marshal(p)
		must(t, err)
		must(t, json.Unmarshal(b, &m))
		m["type"] = pluginName
		list = append(list, m)
	}
	b, err := json.Marshal(map[string]any{"cniVersion": version, "name": name, "plugins": list})
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, name+".conflist"), b, 0o600))
}

// Attached returns the attachments that plugins with this directory have made and not undone.
func Attached(t testing.TB, dir string) []string {
	t.Helper()
	names := []string{}
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		if !e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names
}

// PluginCalls returns the calls of plugins with this directory, and forgets them.
func PluginCalls(t testing.TB, dir string) []PluginCall {
	t.Helper()
	var calls []PluginCall
	entries, err := os.ReadDir(filepath.Join(dir, "log"))
	must(t, err)
	for _, e := range entries {
		path := filepath.Join(dir, "log", e.Name())
		b, err := os.ReadFile(path)
		must(t, err)
		var c PluginCall
		must(t, json.Unmarshal(b, &c))
		calls = append(calls, c)
		must(t, os.Remove(path))
	}
	return calls
}

// plugin is the plugin.
func plugin(verb string) error {
	stdin, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	if verb == "VERSION" {
		fmt.Print(`{"cniVersion":"1.1.0","supportedVersions":["0.1.0","0.2.0","0.3.0","0.3.1","0.4.0","1.0.0","1.1.0"]}`)
		return nil
	}
	var conf struct {
		Plugin
		Version string `json:"cniVersion"`
		Runtime struct {
			IPs []string `json:"ips"`
			MAC string   `json:"mac"`
		} `json:"runtimeConfig"`
		Args struct {
			CNI struct {
				IPs []string `json:"ips"`
				MAC string   `json:"mac"`
			} `json:"cni"`
		} `json:"args"`
		Valid []struct {
			ID string `json:"containerID"`
			If string `json:"ifname"`
		} `json:"cni.dev/valid-attachments"`
	}
	call := PluginCall{
		Verb: verb, Container: os.Getenv("CNI_CONTAINERID"), Interface: os.Getenv("CNI_IFNAME"), Netns: os.Getenv("CNI_NETNS"),
		Env: os.Environ(),
	}
	if err := json.Unmarshal(stdin, &conf); err != nil {
		return err
	}
	if err := json.Unmarshal(stdin, &call.Stdin); err != nil {
		return err
	}
	call.Inode, _ = os.Readlink(call.Netns)
	if call.Inode != "" {
		call.Inode, _ = os.Readlink(call.Inode)
	}
	fds, _ := os.ReadDir("/proc/self/fd")
	for _, f := range fds {
		if what, err := os.Readlink("/proc/self/fd/" + f.Name()); err == nil {
			call.FDs = append(call.FDs, f.Name()+" "+what)
		}
	}
	if err := writeCall(conf.Dir, call); err != nil {
		return err
	}
	lease := filepath.Join(conf.Dir, call.Container+"-"+call.Interface)
	switch conf.On[verb] {
	case "":
	case "hang":
		// Half-way: something is made, and a program waited for, as one for addresses is.
		if verb == "ADD" {
			_ = os.WriteFile(lease, nil, 0o600)
		}
		sleep := exec.Command("sleep", "1000")
		sleep.Stdout, sleep.Stderr = os.Stdout, os.Stderr
		if err := sleep.Start(); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(conf.Dir, "log", "pid"), fmt.Appendf(nil, "%d %d", os.Getpid(), sleep.Process.Pid), 0o600); err != nil {
			return err
		}
		return sleep.Wait()
	case "fail":
		if verb == "ADD" {
			_ = os.WriteFile(lease, nil, 0o600)
		}
		return fmt.Errorf("%s is to fail", verb)
	case "die":
		fmt.Fprintln(os.Stderr, "\x1b[31mpanic:\nout of luck")
		os.Exit(2)
	case "flood":
		for {
			if _, err := os.Stdout.WriteString(strings.Repeat(" ", 4096)); err != nil {
				return err
			}
		}
	case "noise":
		for range 100 {
			os.Stderr.WriteString(strings.Repeat("x", 4096))
		}
	case "leave": // a child that holds the streams
		sleep := exec.Command("sleep", "3")
		sleep.Stdout, sleep.Stderr = os.Stdout, os.Stderr
		if err := sleep.Start(); err != nil {
			return err
		}
	case "garbage":
		fmt.Print("{hello")
		return nil
	case "null":
		fmt.Print("null")
		return nil
	case "silent":
		return nil
	case "strange":
		fmt.Printf(`{"cniVersion":%q,"ips":[{"version":"4","address":"10.9.9.9/24"}],"dns":{"nameservers":["1.1.1.1"],"search":["a\nnameserver 6.6.6.6"]}}`, conf.Version)
		return nil
	}
	switch verb {
	case "ADD":
		return pluginAdd(conf.Plugin, conf.Version, lease, call, append(conf.Runtime.IPs, conf.Args.CNI.IPs...), conf.Runtime.MAC+conf.Args.CNI.MAC)
	case "DEL":
		if err := os.Remove(lease); err != nil && !os.IsNotExist(err) {
			return err
		}
	case "CHECK":
		if _, err := os.Stat(lease); err != nil {
			return err
		}
	case "GC":
		entries, err := os.ReadDir(conf.Dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			valid := e.IsDir()
			for _, v := range conf.Valid {
				valid = valid || e.Name() == v.ID+"-"+v.If
			}
			if !valid {
				if err := os.Remove(filepath.Join(conf.Dir, e.Name())); err != nil {
					return err
				}
			}
		}
	case "STATUS":
	default:
		return fmt.Errorf("unknown CNI_COMMAND: %s", verb)
	}
	return nil
}

func writeCall(dir string, call PluginCall) error {
	b, err := json.Marshal(call)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "log", fmt.Sprintf("%d-%d", time.Now().UnixNano(), os.Getpid())), b, 0o600)
}

func pluginAdd(p Plugin, version, lease string, call PluginCall, ask []string, mac string) error {
	give := p.IPs
	if len(ask) > 0 {
		give = ask
	}
	var ips []any
	var v4, v6 string
	for _, ip := range give {
		if slices.Contains(p.Taken, ip) {
			return fmt.Errorf("%s is taken", ip)
		}
		family := "4"
		if !strings.Contains(ip, "/") {
			ip += "/32"
		}
		if strings.Contains(ip, ":") {
			family, v6 = "6", ip
		} else {
			v4 = ip
		}
		ips = append(ips, map[string]any{"version": family, "address": ip, "interface": 1})
	}
	if mac == "" {
		mac = "02:00:00:00:00:01"
	}
	result := map[string]any{
		"cniVersion": version, "ips": ips, "dns": p.DNS,
		"interfaces": []any{
			map[string]any{"name": "vethfake", "mac": "02:00:00:00:00:02"},
			map[string]any{"name": call.Interface, "mac": mac, "sandbox": call.Netns, "mtu": 1400},
		},
	}
	if version == "0.1.0" || version == "0.2.0" {
		result = map[string]any{"cniVersion": version, "dns": p.DNS}
		if v4 != "" {
			result["ip4"] = map[string]any{"ip": v4}
		}
		if v6 != "" {
			result["ip6"] = map[string]any{"ip": v6}
		}
	}
	if err := os.WriteFile(lease, nil, 0o600); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}
