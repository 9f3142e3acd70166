package guardian

import _ "embed"

//go:embed guardian_linux_amd64
var program []byte
