package doorstep

import _ "embed"

//go:embed doorstep_linux_amd64
var program []byte
