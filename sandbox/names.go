package sandbox

import "strings"

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

// isLabel reports whether s is an RFC 1123 label.
func isLabel(s string) bool { return word(s, 63, lower, "-") }

// isSubdomain reports whether s is a list of RFC 1123 labels with dots between
// them.
func isSubdomain(s string) bool { return len(s) <= 253 && every(s, isLabel) }

// isDomain reports whether s may stand in resolv.conf(5) or hosts(5): upper case,
// underscores and a final dot occur in practice.
func isDomain(s string) bool {
	return len(s) <= 253 && every(strings.TrimSuffix(s, "."), func(l string) bool {
		return word(l, 63, alnum+"_", "-")
	})
}

// isQualified reports whether s may be the name or the value of a label of
// Kubernetes.
func isQualified(s string) bool { return word(s, 63, alnum, "-_.") }

// isSysctl reports whether s is the dotted name of a sysctl. A slash, which
// stands for a dot in the name of a link, cannot begin a part: no part becomes
// "..".
func isSysctl(s string) bool {
	return strings.Contains(s, ".") && every(s, func(part string) bool {
		return part != "" && part[0] != '/' && strings.Trim(part, alnum+"_-/") == ""
	})
}

// isID reports whether s is a pod's ID.
func isID(s string) bool { return len(s) == idLen && isHex(s) }

func isHex(s string) bool { return strings.Trim(s, "0123456789abcdef") == "" }

// every reports whether all parts of s between dots are ok.
func every(s string, ok func(string) bool) bool {
	for part := range strings.SplitSeq(s, ".") {
		if !ok(part) {
			return false
		}
	}
	return true
}
