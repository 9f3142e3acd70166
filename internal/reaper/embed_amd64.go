package reaper

import _ "embed"

//go:embed reaper_linux_amd64
var binary []byte
