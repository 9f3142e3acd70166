package launcher

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// insideName is what this program is called when it runs in a container, to do what
// busybox cannot.
const insideName = "inside"

// withInside lets a container have this program, and whatever that needs, as /bin/inside.
func withInside(t testing.TB, s *specs.Spec, args ...string) *specs.Spec {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bind := func(source, dest string) {
		s.Mounts = append(s.Mounts, specs.Mount{Type: "bind", Source: source, Destination: dest, Options: []string{"ro"}})
	}
	bind(self, "/bin/inside")
	f, err := elf.Open(self)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if libs, err := f.ImportedLibraries(); err == nil && len(libs) > 0 { // with the race detector, for example
		for _, dir := range []string{"/lib", "/lib64", "/usr/lib"} {
			if _, err := os.Stat(dir); err == nil {
				bind(dir, dir)
			}
		}
	}
	if len(args) > 0 {
		s.Process.Args = args
	}
	return s
}

// inside is the program. It is called insideName by an argument vector of its own.
func inside(args []string) int {
	actions := map[string]func([]string) error{
		"watch": watch, "keys": showKeys, "syscall": doSyscall, "attrs": showAttrs, "eat": eat, "ids": showIDs,
	}
	if err := actions[args[0]](args[1:]); err != nil {
		fmt.Println(args[0]+":", err)
		return 1
	}
	return 0
}

// watch looks at all processes that it sees, over and over, for what they must not show
// to it, until there is a file /stop.
func watch([]string) error {
	own := strconv.Itoa(os.Getpid())
	seen, told := map[string]bool{}, map[string]bool{}
	tell := func(pid, what string) {
		if comm, _ := os.ReadFile("/proc/" + pid + "/comm"); !told[what] {
			told[what] = true
			fmt.Printf("%s of %s\n", what, bytes.TrimSpace(comm))
		}
	}
	for {
		if _, err := os.Stat("/stop"); err == nil {
			break
		}
		pids, err := filepath.Glob("/proc/[0-9]*")
		if err != nil {
			return err
		}
		for _, dir := range pids {
			pid := filepath.Base(dir)
			if pid == own || pid == "1" {
				continue
			}
			seen[pid] = true
			look(dir, func(what string) { tell(pid, what) })
		}
	}
	fmt.Println("processes:", len(seen) > 0)
	return nil
}

// look tells of what a process shows of what is not the container's.
func look(dir string, tell func(string)) {
	if exe, err := os.Readlink(dir + "/exe"); err == nil && exe != "/bin/busybox" && exe != "/bin/inside" && !strings.HasPrefix(exe, "/memfd:doorstep") {
		tell("executable " + exe)
	}
	for _, link := range []string{"cwd", "root"} {
		if to, err := os.Readlink(dir + "/" + link); err == nil && to != "/" {
			tell(link + " " + to)
		}
	}
	fds, err := os.ReadDir(dir + "/fd")
	if err != nil {
		return
	}
	for _, fd := range fds {
		n, _ := strconv.Atoi(fd.Name())
		to, err := os.Readlink(dir + "/fd/" + fd.Name())
		if err == nil && n > 2 && !strings.HasPrefix(to, "pipe:") {
			tell("descriptor " + to)
		}
	}
	if f, err := os.OpenFile(dir+"/mem", os.O_RDWR, 0); err == nil {
		f.Close()
		// Of the program that has been executed it may be had.
		if exe, err := os.Readlink(dir + "/exe"); err != nil || exe != "/bin/busybox" && exe != "/bin/inside" && !strings.HasPrefix(exe, "/memfd:doorstep") {
			if !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ESRCH) {
				tell("memory")
			}
		}
	}
}

// showKeys prints the description of all keys in the session's keyring.
func showKeys([]string) error {
	keyring, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, false)
	if err != nil {
		return err
	}
	description, err := unix.KeyctlString(unix.KEYCTL_DESCRIBE, keyring)
	if err != nil {
		return err
	}
	_, err = unix.KeyctlSearch(keyring, "user", "podbox-launcher-test", 0)
	fmt.Println(description, err)
	return nil
}

// doSyscall makes the system call of a number, with no arguments, and prints its error.
func doSyscall(args []string) error {
	nr, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	_, _, errno := unix.RawSyscall6(uintptr(nr), 0, 0, 0, 0, 0, 0)
	fmt.Println(int(errno))
	return nil
}

// showAttrs prints how the process is scheduled, and on what it believes to run.
func showAttrs([]string) error {
	attr, err := unix.SchedGetAttr(0, 0)
	if err != nil {
		return err
	}
	prio, _, errno := unix.Syscall(unix.SYS_IOPRIO_GET, 1, 0, 0)
	if errno != 0 {
		return errno
	}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return err
	}
	fmt.Println(attr.Policy, attr.Nice, attr.Priority, prio>>13, prio&7, unix.ByteSliceToString(uts.Machine[:]))
	return nil
}

// eat allocates megabytes of memory.
func eat(args []string) error {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	b, err := unix.Mmap(-1, 0, n<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return err
	}
	for i := 0; i < len(b); i += 4096 {
		b[i] = 1
	}
	fmt.Println("ate", n)
	return nil
}

// showIDs prints who the process is, in effect.
func showIDs([]string) error {
	fmt.Println(os.Geteuid())
	return nil
}
