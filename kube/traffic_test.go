package kube

import (
	"maps"
	"testing"

	"github.com/podbox/podbox/sandbox"
)

// What is written about a pod's traffic is what is read of it.
func TestTraffic(t *testing.T) {
	for _, want := range []map[string]string{
		{},
		{ingressAnnotation: "10M", egressAnnotation: "1500k"},
		{fromAnnotation: "none", toAnnotation: "host:53/udp label:app=web:80/tcp [fd00::/8]:443/tcp", isolateAnnotation: "team"},
	} {
		info := new(sandbox.Info)
		info.Bandwidth, info.Policy = traffic(want, func(key string, err error) { t.Errorf("%s: %v", key, err) })
		got := make(map[string]string)
		describeTraffic(info, func(key, value string) { got[key] = value })
		if !maps.Equal(got, want) {
			t.Errorf("%v comes back as %v", want, got)
		}
	}
	_, p := traffic(map[string]string{fromAnnotation: "web,\n db:80\t10.0.0.0/8"}, func(key string, err error) { t.Errorf("%s: %v", key, err) })
	if len(p.From) != 3 || p.To != nil {
		t.Errorf("%+v", p)
	}
}
