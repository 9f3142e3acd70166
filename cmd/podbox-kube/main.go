// Command podbox-kube is the part of podbox that knows registries and Pod YAML. podbox
// executes it for the verbs that need them; nobody else has to.
package main

import (
	"os"

	"github.com/podbox/podbox/cmd/internal/kubecli"
)

func main() { os.Exit(kubecli.Run(os.Args[1:])) }
