package pause

import _ "embed"

//go:embed pause_linux_amd64
var binary []byte
