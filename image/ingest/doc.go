// Package ingest brings images into a store: from a registry (as what
// go-containerregistry pulls), from archives of docker save and the OCI image layout,
// and from a root directory or a tar of one.
//
// Layers are unpacked while they arrive, some at once, and each once only, however many
// processes want it. Nothing is held in memory but buffers; an archive that cannot be
// sought in, such as standard input, is kept on the disk meanwhile.
//
// # What is refused
//
// What comes in was written by strangers. A layer is refused, by an error that matches
// [ErrRefused], for a name that leads out of the root by "..", an entry below a symbolic
// link that is absolute or leads out of the root, a hard link to something outside, a
// whiteout of nothing, of "." or of "..", a device that overlayfs would take for a
// whiteout, an owner that is no ID, a component of a name longer than 255 bytes, and
// for more bytes or entries than [Limits] has. Configuration, manifest, blobs and
// uncompressed layers must have the digests and sizes that are given for them
// (image.ErrCorrupt).
//
// A leading slash of a name means the root of the image, as with docker: tools in use
// write such names. Devices are made as they are in the layer, since they may replace a
// file of a layer below; the store is root's alone, and in a container's root devices
// are dead (nodev). Of extended attributes those that are trusted.*, security.selinux,
// security.ima and security.evm are left out: they mean something on the host that made them only.
package ingest
