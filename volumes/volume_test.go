package volumes

import (
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
)

func TestValidate(t *testing.T) {
	files := func(entries ...File) Volume { return Volume{Name: "v", Files: &Files{Entries: entries}} }
	for _, tt := range []struct {
		v    Volume
		want string // beginning of the error
	}{
		{Volume{Name: "v"}, ""},
		{Volume{Name: strings.Repeat("a", 63), Disk: &Disk{}, FSGroup: ptr[uint32](0)}, ""},
		{Volume{Name: "v", Memory: &Memory{}}, ""},
		{Volume{Name: "v", Memory: &Memory{Size: 4096}}, ""},
		{Volume{Name: "v", HostPath: &HostPath{Path: "/"}}, ""},
		{Volume{Name: "v", HostPath: &HostPath{Path: "/srv/a..b/..c/", Type: PathSocket}}, ""},
		{files(), ""},
		{files(File{Path: "a"}, File{Path: "b/c"}, File{Path: "b/d", Mode: ptr[uint32](0)}, File{Path: "./e//f/"}, File{Path: "x/..y"}, File{Path: ".z"}), ""},

		{Volume{}, `volume name ""`},
		{Volume{Name: "v", Disk: &Disk{Size: 4096}}, ""},
		{Volume{Name: "v", Claim: &Claim{Name: "data.db-0"}, FSGroup: ptr[uint32](1), FSGroupPolicy: GroupOnRootMismatch}, ""},
		{Volume{Name: "v", Claim: &Claim{Name: strings.Repeat("a.", 126) + "a"}}, ""},
		{Volume{Name: "v", Claim: &Claim{Name: strings.Repeat("a.", 127) + "a"}}, `volume v: claim "a.a.`},
		{Volume{Name: "v", Claim: &Claim{}}, `volume v: claim ""`},
		{Volume{Name: "v", Claim: &Claim{Name: ".."}}, `volume v: claim ".."`},
		{Volume{Name: "v", Claim: &Claim{Name: "a/b"}}, `volume v: claim "a/b"`},
		{Volume{Name: "v", Claim: &Claim{Name: ".a"}}, `volume v: claim ".a"`},
		{Volume{Name: "v", Claim: &Claim{Name: "a"}, Disk: &Disk{}}, `volume v: kind "disk,claim"`},
		{Volume{Name: "v", FSGroupPolicy: GroupAlways}, `volume v: fsGroupPolicy "Always"`},
		{Volume{Name: "v", FSGroup: ptr[uint32](1), FSGroupPolicy: "always"}, `volume v: fsGroupPolicy "always"`},
		{Volume{Name: "v", Disk: &Disk{Size: 4095}}, `volume v: disk size "4095"`},
		{Volume{Name: "A"}, `volume name "A"`},
		{Volume{Name: "a.b"}, `volume name "a.b"`},
		{Volume{Name: ".."}, `volume name ".."`},
		{Volume{Name: "-a"}, `volume name "-a"`},
		{Volume{Name: "a\n"}, `volume name "a\n"`},
		{Volume{Name: strings.Repeat("a", 64)}, `volume name "aaaa`},
		{Volume{Name: "v", Disk: &Disk{}, Files: &Files{}}, `volume v: kind "disk,files"`},
		{Volume{Name: "v", Memory: &Memory{Size: -1}}, `volume v: memory size "-1"`},
		{Volume{Name: "v", Memory: &Memory{Size: 4095}}, `volume v: memory size "4095"`},
		{Volume{Name: "v", FSGroup: ptr[uint32](math.MaxUint32)}, `volume v: fsGroup "4294967295"`},
		{Volume{Name: "v", HostPath: &HostPath{Path: "/"}, FSGroup: ptr[uint32](1)}, `volume v: fsGroup "1"`},
		{Volume{Name: "v", HostPath: &HostPath{}}, `volume v: host path ""`},
		{Volume{Name: "v", HostPath: &HostPath{Path: "a"}}, `volume v: host path "a"`},
		{Volume{Name: "v", HostPath: &HostPath{Path: "/a/../b"}}, `volume v: host path "/a/../b"`},
		{Volume{Name: "v", HostPath: &HostPath{Path: "/a\x00"}}, `volume v: host path "/a\x00"`},
		{Volume{Name: "v", HostPath: &HostPath{Path: "/a", Type: "directory"}}, `volume v: type of host path "directory"`},
		{Volume{Name: "v", Files: &Files{DefaultMode: 0o1000}}, `volume v: default mode "01000"`},
		{files(File{}), `volume v: file ""`},
		{files(File{Path: "."}), `volume v: file "."`},
		{files(File{Path: "/a"}), `volume v: file "/a"`},
		{files(File{Path: "a/../b"}), `volume v: file "a/../b"`},
		{files(File{Path: ".."}), `volume v: file ".."`},
		{files(File{Path: "..data"}), `volume v: file "..data"`},
		{files(File{Path: "./..data"}), `volume v: file "./..data"`},
		{files(File{Path: "a\x00"}), `volume v: file "a\x00"`},
		{files(File{Path: strings.Repeat("a", 256)}), `volume v: file "aaaa`},
		{files(File{Path: strings.Repeat("a/", 2048)}), `volume v: file "a/a/`},
		{files(File{Path: "a"}, File{Path: "./a"}), `volume v: file "./a"`},
		{files(File{Path: "a/b/c"}, File{Path: "a"}), `volume v: file "a/b/c"`},
		{files(File{Path: "a", Mode: ptr[uint32](0o1777)}), `volume v: mode of a "01777"`},
		{files(File{Path: "a", UID: ptr[uint32](math.MaxUint32)}), `volume v: uid of a`},
		{files(File{Path: "a", GID: ptr[uint32](math.MaxUint32)}), `volume v: gid of a`},
	} {
		err := tt.v.Validate()
		if tt.want == "" && err != nil {
			t.Errorf("%v: %v", tt.v, err)
		}
		if tt.want != "" && (!errors.Is(err, ErrInvalid) || !strings.HasPrefix(err.Error(), tt.want)) {
			t.Errorf("got error %v, want %s: invalid value …", err, tt.want)
		}
	}
}

func TestJSON(t *testing.T) {
	for text, v := range map[string]Volume{
		`{"name":"v"}`:                             {Name: "v"},
		`{"name":"v","disk":{}}`:                   {Name: "v", Disk: &Disk{}},
		`{"name":"v","memory":{"size":4096}}`:      {Name: "v", Memory: &Memory{Size: 4096}},
		`{"name":"v","hostPath":{"path":"/"}}`:     {Name: "v", HostPath: &HostPath{Path: "/"}},
		`{"name":"v","files":{},"fsGroup":0}`:      {Name: "v", Files: &Files{}, FSGroup: ptr[uint32](0)},
		`{"name":"v","files":{"defaultMode":384}}`: {Name: "v", Files: &Files{DefaultMode: 0o600}},
		`{"name":"v","files":{"entries":[{"path":"a","content":"AP8=","mode":0}]}}`: {
			Name: "v", Files: &Files{Entries: []File{{Path: "a", Content: []byte{0, 255}, Mode: ptr[uint32](0)}}},
		},
	} {
		b, err := json.Marshal(v)
		if err != nil || string(b) != text {
			t.Errorf("got %s, %v, want %s", b, err, text)
		}
		var back Volume
		if err := json.Unmarshal(b, &back); err != nil || !reflect.DeepEqual(back, v) {
			t.Errorf("%s: got %+v, %v", text, back, err)
		}
	}
}

func TestParse(t *testing.T) {
	memory := func(size int64) Volume { return Volume{Name: "v", Memory: &Memory{Size: size}} }
	for s, want := range map[string]Volume{
		"v":                                 {Name: "v", Disk: &Disk{}},
		"v:disk":                            {Name: "v", Disk: &Disk{}},
		"v:memory":                          memory(0),
		"v:memory,size=64Mi":                memory(64 << 20),
		"v:memory,size=64m":                 memory(64 << 20),
		"v:memory,size=64M":                 memory(64 << 20),
		"v:memory,size=64mb":                memory(64 << 20),
		"v:memory,size=64MiB":               memory(64 << 20),
		"v:memory,size=1Gi":                 memory(1 << 30),
		"v:memory,size=1.5g":                memory(3 << 29),
		"v:memory,size=4096":                memory(4096),
		"v:memory,size=4096b":               memory(4096),
		"v:memory,size=4097":                memory(4097),
		"v:memory,size=5k":                  memory(5 << 10),
		"v:memory,size=8191Pi":              memory(8191 << 50),
		"v:memory,size=9223372036854775807": memory(math.MaxInt64),
		"v:hostpath=/srv/data":              {Name: "v", HostPath: &HostPath{Path: "/srv/data"}},
		"v:hostpath=/a:b=c,type=Directory":  {Name: "v", HostPath: &HostPath{Path: "/a:b=c", Type: PathDirectory}},
	} {
		got, err := Parse(s)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, %v", s, got, err)
		}
		if again, err := Parse(got.String()); err != nil || !reflect.DeepEqual(again, got) {
			t.Errorf("%s: written as %s and read again: %+v, %v", s, got, again, err)
		}
	}
	for s, want := range map[string]error{
		"":                                  ErrInvalid,
		":disk":                             ErrInvalid,
		"v:":                                ErrInvalid,
		"v:,size=1Gi":                       ErrInvalid,
		"V":                                 ErrInvalid,
		"v:tmpfs":                           ErrInvalid,
		"v:Memory":                          ErrInvalid,
		"v:disk,":                           ErrInvalid,
		"v:disk,mode=1":                     ErrInvalid,
		"v:disk,size=1Gi":                   ErrNotSupported,
		"v:memory,":                         ErrInvalid,
		"v:memory,type=File":                ErrInvalid,
		"v:memory,size":                     ErrInvalid,
		"v:memory,size=0":                   ErrInvalid,
		"v:memory,size=-1":                  ErrInvalid,
		"v:memory,size=+4096":               ErrInvalid,
		"v:memory,size=4095":                ErrInvalid,
		"v:memory,size=4096.5":              ErrInvalid,
		"v:memory,size=0x1000":              ErrInvalid,
		"v:memory,size=1e9":                 ErrInvalid,
		"v:memory,size=8192/2":              ErrInvalid,
		"v:memory,size=1_000_000":           ErrInvalid,
		"v:memory,size=1.2.3Gi":             ErrInvalid,
		"v:memory,size=.":                   ErrInvalid,
		"v:memory,size=Gi":                  ErrInvalid,
		"v:memory,size=1G i":                ErrInvalid,
		"v:memory,size=1Gib ":               ErrInvalid,
		"v:memory,size=1bG":                 ErrInvalid,
		"v:memory,size=1mm":                 ErrInvalid,
		"v:memory,size=1i":                  ErrInvalid,
		"v:memory,size=8192Pi":              ErrInvalid,
		"v:memory,size=9223372036854775808": ErrInvalid,
		"v:memory,size=1." + strings.Repeat("0", 1000): ErrInvalid,
		"v:hostpath":                   ErrInvalid,
		"v:hostpath=":                  ErrInvalid,
		"v:hostpath=srv":               ErrInvalid,
		"v:hostpath=/a/../b":           ErrInvalid,
		"v:hostpath=/a,type=directory": ErrInvalid,
		"v:hostpath=/a,b":              ErrInvalid,
		"v:hostpath=/a,size=1Gi":       ErrInvalid,
		"../v:disk":                    ErrInvalid,
	} {
		if got, err := Parse(s); !errors.Is(err, want) {
			t.Errorf("%s: got %+v, %v, want %v", s, got, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"v", "v:disk", "v:memory,size=1.5Gi", "v:hostpath=/srv,type=DirectoryOrCreate", "v:disk,size=1", "a:memory,size=9999999999t"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, err := Parse(s)
		if err != nil {
			if !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrNotSupported) {
				t.Errorf("%q: error of no kind: %v", s, err)
			}
			return
		}
		again, err := Parse(v.String())
		if err != nil || !reflect.DeepEqual(again, v) {
			t.Errorf("%q: %+v is written as %q and read as %+v, %v", s, v, v, again, err)
		}
	})
}
