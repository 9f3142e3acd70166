package supervisor

// The types of what probes and hooks look at.
type (
	// HTTPGet asks for a path.
	HTTPGet struct {
		Scheme  string       `json:"scheme,omitempty"` // HTTP or HTTPS; empty: HTTP
		Host    string       `json:"host,omitempty"`   // empty: the pod
		Port    uint16       `json:"port"`
		Path    string       `json:"path,omitempty"`
		Headers []HTTPHeader `json:"headers,omitempty"`
	}
	// HTTPHeader is a line of a request.
	HTTPHeader struct {
		Name  string `json:"name"`
		Value string `json:"value,omitempty"`
	}
	// TCPSocket connects.
	TCPSocket struct {
		Host string `json:"host,omitempty"` // empty: the pod
		Port uint16 `json:"port"`
	}
	// GRPC asks grpc.health.v1.
	GRPC struct {
		Port    uint16 `json:"port"`
		Service string `json:"service,omitempty"`
	}
)
