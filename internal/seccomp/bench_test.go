package seccomp

import (
	"runtime"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// dockerCaps are the capabilities that Docker leaves to a container.
var dockerCaps = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID",
	"CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
}

func BenchmarkDefault(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Default(dockerCaps); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	s := defaultProfile(b, dockerCaps)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Compile(s); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkInstall measures seccomp(2) alone, each time on a thread of its own.
func BenchmarkInstall(b *testing.B) {
	s := defaultProfile(b, dockerCaps)
	f, err := Compile(s)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("docker", func(b *testing.B) { benchmarkInstall(b, f) })
	f, err = Compile(&specs.LinuxSeccomp{DefaultAction: specs.ActAllow})
	if err != nil {
		b.Fatal(err)
	}
	b.Run("empty", func(b *testing.B) { benchmarkInstall(b, f) })
}

func benchmarkInstall(b *testing.B, f *Filter) {
	var total time.Duration
	for b.Loop() {
		done := make(chan error)
		go func() {
			runtime.LockOSThread() // and never unlock: the thread ends with the goroutine
			if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
				done <- err
				return
			}
			begin := time.Now()
			err := install(f)
			total += time.Since(begin)
			done <- err
		}()
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(total.Nanoseconds())/float64(b.N), "ns/install")
}
