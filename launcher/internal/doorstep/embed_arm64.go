package doorstep

import _ "embed"

//go:embed doorstep_linux_arm64
var program []byte
