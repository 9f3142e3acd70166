// Package names knows the syntax of the names that Kubernetes, resolv.conf(5) and podbox
// itself use.
package names

import (
	"crypto/rand"
	"encoding/hex"
	"strings"
)

// The syntax of names. Written out rather than as regular expressions: those
// would be compiled at every start of every command.

const (
	lower = "abcdefghijklmnopqrstuvwxyz0123456789"
	alnum = lower + "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
)

// word reports whether s is 1 to limit characters of ends and inner, of which the
// first and the last are of ends.
func word(s string, limit int, ends, inner string) bool {
	return s != "" && len(s) <= limit && strings.Trim(s, ends+inner) == "" &&
		strings.Contains(ends, s[:1]) && strings.Contains(ends, s[len(s)-1:])
}

// IsLabel reports whether s is an RFC 1123 label.
func IsLabel(s string) bool { return word(s, 63, lower, "-") }

// IsSubdomain reports whether s is a list of RFC 1123 labels with dots between
// them.
func IsSubdomain(s string) bool { return len(s) <= 253 && every(s, IsLabel) }

// IsDomain reports whether s may stand in resolv.conf(5) or hosts(5): upper case,
// underscores and a final dot occur in practice.
func IsDomain(s string) bool {
	return len(s) <= 253 && every(strings.TrimSuffix(s, "."), func(l string) bool {
		return word(l, 63, alnum+"_", "-")
	})
}

// IsQualified reports whether s may be the name or the value of a label of
// Kubernetes.
func IsQualified(s string) bool { return word(s, 63, alnum, "-_.") }

// IsSysctl reports whether s is the dotted name of a sysctl. A slash, which
// stands for a dot in the name of a link, cannot begin a part: no part becomes
// "..".
func IsSysctl(s string) bool {
	return strings.Contains(s, ".") && every(s, func(part string) bool {
		return part != "" && part[0] != '/' && strings.Trim(part, alnum+"_-/") == ""
	})
}

// idLen is the length of an ID.
const idLen = 64

// NewID returns an ID that no other pod or container has.
func NewID() string {
	b := make([]byte, idLen/2)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// IsID reports whether s is the ID of a pod or container.
func IsID(s string) bool { return len(s) == idLen && IsHex(s) }

// MayBeginID reports whether an ID can begin with s.
func MayBeginID(s string) bool { return s != "" && len(s) <= idLen && IsHex(s) }

// IsHex reports whether s has lower-case hexadecimal digits only.
func IsHex(s string) bool { return strings.Trim(s, "0123456789abcdef") == "" }

// every reports whether all parts of s between dots are ok.
func every(s string, ok func(string) bool) bool {
	for part := range strings.SplitSeq(s, ".") {
		if !ok(part) {
			return false
		}
	}
	return true
}
