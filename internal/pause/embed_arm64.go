package pause

import _ "embed"

//go:embed pause_linux_arm64
var binary []byte
