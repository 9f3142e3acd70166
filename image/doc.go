// Package image keeps images on this machine: their layers, unpacked once and shared
// by all images and containers that have them, and what is to be run of them.
//
// A [Store] is a directory. Any number of processes use it at once:
//
//	lock                          taken by who changes what follows, and for moments only
//	names.json                    what images are called
//	images/ID/                    image.json, config.json and manifest.json of one image;
//	                              born, until it has had the names it came with
//	layers/ID/                    layer.json, and diff: the files, as overlayfs(5) wants them
//	uses/ID/USER                  a link to the path whose presence says that the image is in use
//	building/ID                   locked by who unpacks the layer
//	temporary/RANDOM/             on its way in or out, and locked by whose it is
//
// IDs are digests in hexadecimal: of an image's configuration, and of a layer and all
// below it ("chain ID" in the OCI image specification). What appears under its name is
// whole and on the disk. A process may be killed at any moment: what it leaves is in
// temporary and locked by nobody, and whoever adds an image or prunes next removes it.
// A layer is removed only under the lock, if no image has it and nobody holds it.
//
// What an image says of itself was written by strangers. Nothing of it is taken for a
// path, and it is bounded; see package ingest for how images come in.
//
// The package imports little, so that a program that starts containers starts fast:
// registries and archives are package ingest's and its siblings'. It needs root for
// layers with files of several owners, and Linux 5.12.
package image
