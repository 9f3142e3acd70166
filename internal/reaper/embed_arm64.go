package reaper

import _ "embed"

//go:embed reaper_linux_arm64
var binary []byte
