package probe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The messages of grpc.health.v1, whose two have one field each, and the framing of
// gRPC: a byte that says whether the message is compressed, and its length in four.
// The protobuf library would read the whole executable at each start to seed a
// random number (internal/detrand); this is all that we would use of it.

// status is a HealthCheckResponse.ServingStatus.
type status uint64

const serving status = 1

func (s status) String() string {
	if names := [...]string{"UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"}; s < status(len(names)) {
		return names[s]
	}
	return fmt.Sprint(uint64(s))
}

// The types of a field, in the low bits of its tag.
const (
	typeVarint = 0
	type64     = 1
	typeBytes  = 2
	type32     = 5
)

const frameHeader = 5

// healthRequest returns a HealthCheckRequest for a service, framed.
func healthRequest(service string) []byte {
	b := make([]byte, frameHeader, frameHeader+1+binary.MaxVarintLen64+len(service))
	if service != "" {
		b = append(b, 1<<3|typeBytes)
		b = binary.AppendUvarint(b, uint64(len(service)))
		b = append(b, service...)
	}
	binary.BigEndian.PutUint32(b[1:], uint32(len(b)-frameHeader))
	return b
}

var (
	errCompressed = errors.New("the message is compressed, and nobody asked for that")
	errTruncated  = errors.New("the message ends too early")
	errMalformed  = errors.New("the message is not a HealthCheckResponse")
	errMore       = errors.New("more than one message")
)

// readHealth reads the one message that there is in r, a HealthCheckResponse, and
// r to its end. io.EOF if there is none.
func readHealth(r io.Reader) (status, error) {
	var header [frameHeader]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return 0, truncated(err)
	}
	if header[0] != 0 {
		return 0, errCompressed
	}
	// A length is a stranger's claim. Nothing is allocated that is not checked.
	n := binary.BigEndian.Uint32(header[1:])
	if n > maxOutput {
		return 0, fmt.Errorf("a message of %d bytes, larger than the %d that a status may have", n, maxOutput)
	}
	message := make([]byte, n)
	if _, err := io.ReadFull(r, message); err == io.EOF {
		return 0, errTruncated
	} else if err != nil {
		return 0, truncated(err)
	}
	// What comes now is the end, or too much.
	if k, err := r.Read(header[:1]); k > 0 {
		return 0, errMore
	} else if err != io.EOF && err != nil {
		return 0, err
	}
	return parseHealth(message)
}

func truncated(err error) error {
	if err == io.ErrUnexpectedEOF {
		return errTruncated
	}
	return err
}

// parseHealth returns the status in a HealthCheckResponse. What it does not know it
// passes over, as every reader of protobuf does.
func parseHealth(b []byte) (status, error) {
	var s status
	for len(b) > 0 {
		tag, n := binary.Uvarint(b)
		if n <= 0 || tag>>3 == 0 {
			return 0, errMalformed
		}
		b = b[n:]
		var skip uint64
		switch tag & 7 {
		case typeVarint:
			v, n := binary.Uvarint(b)
			if n <= 0 {
				return 0, errMalformed
			}
			if tag>>3 == 1 {
				s = status(v)
			}
			skip = uint64(n)
		case type64:
			skip = 8
		case type32:
			skip = 4
		case typeBytes:
			size, n := binary.Uvarint(b)
			if n <= 0 {
				return 0, errMalformed
			}
			b, skip = b[n:], size
		default:
			return 0, errMalformed
		}
		if skip > uint64(len(b)) {
			return 0, errMalformed
		}
		b = b[skip:]
	}
	return s, nil
}
