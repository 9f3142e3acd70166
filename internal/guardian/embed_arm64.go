package guardian

import _ "embed"

//go:embed guardian_linux_arm64
var program []byte
