// Package registry fetches images from registries, and brings them into a store.
//
// Where an image is fetched from is said by files that other tools have, and read by
// their libraries, as far as they say so to the letter of their manual pages:
//
//   - containers-registries.conf(5), with the files in registries.conf.d: mirrors and
//     their order, locations in place of prefixes, registries that are blocked or
//     insecure, aliases of short names. A short name without an alias is docker.io's, as
//     it is to Kubernetes and Docker: unqualified-search-registries are not searched.
//   - containers-certs.d(5): /etc/containers/certs.d/HOST:PORT, else
//     /etc/docker/certs.d/HOST:PORT. Authorities (*.crt) beside those of the system, and
//     client certificates (*.cert with *.key).
//   - containers-auth.json(5), the files of docker login, and their credential helpers.
//
// These libraries, and net/http for a proxy (HTTPS_PROXY, NO_PROXY), look at the
// environment; this package does not.
//
// Nothing is fetched by plain HTTP, and no certificate goes unverified, unless the
// configuration says insecure or [Options.Insecure] does: not from loopback addresses
// either, and not from private ones. Credentials go to the registry that they are for,
// by its host and port, or to the token server that it names, which must speak HTTPS if
// the registry does; a redirect takes none along. If a registry names its token server
// by a private address, that must be its own: give it a name. A registry has a name or an
// IPv4 address, not an address of IPv6.
//
// What comes is checked: manifests, configurations and layers by their digests, those
// that a reference asks for above all; their sizes are bounded. What fails for a moment
// (HTTP 429, 500, 502, 503 and 504, a connection reset or cut short) is tried again,
// a layer from where it broke off. What does not come at a kibibyte a second is given up.
package registry
