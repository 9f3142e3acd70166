package kubecli

import (
	"errors"
	"strings"

	"github.com/podbox/podbox/image"
	"github.com/podbox/podbox/image/ingest"
	"github.com/podbox/podbox/image/registry"
	"github.com/podbox/podbox/kube"
)

// hint returns what a person may do about an error of ours, or "".
func hint(err error) string {
	switch {
	case errors.Is(err, kube.ErrImmutable):
		return "podbox apply --replace removes the pod and makes it anew"
	case errors.Is(err, kube.ErrNotSaid) && strings.Contains(err.Error(), ": secret "):
		return "keep its manifest in /etc/podbox/pods, for podbox@.service"
	case errors.Is(err, registry.ErrPlainHTTP):
		return "insecure = true for it in /etc/containers/registries.conf allows that, or --tls-verify=false"
	case errors.Is(err, registry.ErrUntrusted):
		return "put its authority into /etc/containers/certs.d/HOST:PORT/ca.crt, or give --cert-dir"
	case errors.Is(err, registry.ErrDenied):
		return "podman login or docker login lets podbox in, or --creds; some registries say so of what is not there"
	case errors.Is(err, registry.ErrNeverPull):
		return "podbox image pull fetches it"
	case errors.Is(err, registry.ErrPlatform), errors.Is(err, ingest.ErrPlatform):
		return "--platform chooses another"
	case errors.Is(err, image.ErrNotFound):
		return "podbox image ls lists the images there are"
	case errors.Is(err, image.ErrInUse) && strings.Contains(err.Error(), "several names"):
		return "--force removes it with all of them"
	case errors.Is(err, image.ErrInUse):
		return "podbox rm removes the containers on it, podbox gc what is left of pods that are gone"
	case errors.Is(err, image.ErrAmbiguous):
		return "give more digits"
	}
	return ""
}
