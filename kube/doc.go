// Package kube makes pods of the manifests that people have for Kubernetes: it reads
// Pod, ConfigMap and Secret, says of each field what becomes of it, and has packages
// sandbox and supervisor make and lead what they ask for.
//
// # What it refuses
//
// Nothing is made if anything in any of the manifests is wrong, or has no effect here:
// a field that podbox does not act on is an error that names its path. What is about a
// cluster, such as where to run a pod, is accepted and told of. One table says which
// field is which (see [Fields]); docs/POD-YAML.md is written from it.
//
// Manifests are input from outside: their size, depth, number and what their aliases
// expand to are limited. See [Decode].
//
// # Secrets
//
// What is in a Secret is kept on the runtime's tmpfs for root alone, goes into volumes in
// memory and into the environment of those containers that ask for it, and into no error,
// listing or log.
//
// # Rules
//
// All but Decode, Sources and the translation needs root. The package prints nothing. It is
// linked into podbox-kube alone: the Kubernetes API's types take milliseconds to load.
package kube
