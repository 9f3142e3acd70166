package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A machine is what a guest is run on.
type machine struct {
	kernel  string // directory of vmlinuz, initrd and modules.ext4
	root    string // images of disks
	payload string
	accel   string
	log     string // files: all that the guest says, and log.console
	timeout time.Duration
	full    bool
	only    string // a regular expression, without spaces, for the checks of a whole Debian
	verbose bool
}

// accelerator says whether the kernel boots by KVM. That there is /dev/kvm says little: in a machine that is
// virtual itself a guest may hang in its first instructions.
func accelerator(ctx context.Context, kernel string) string {
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return "tcg"
	}
	_ = f.Close()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cmd := qemu(
		ctx, "kvm", kernel, "testvm.mode=probe",
		"-m", "512", "-serial", "stdio",
	)
	out, _ := cmd.CombinedOutput()
	if bytes.Contains(out, []byte("testvm: it boots")) {
		return "kvm"
	}
	fmt.Println("testvm: there is /dev/kvm, but no kernel boots by it here: qemu emulates the processor")
	return "tcg"
}

// qemu returns the command with what all machines have.
func qemu(ctx context.Context, accel, kernel, cmdline string, args ...string) *exec.Cmd {
	// What makes each access to memory dearer when it is emulated is left out.
	cpu := "max,-la57,-smap,-smep"
	if accel == "kvm" {
		cpu = "host"
	}
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", append([]string{
		"-machine", "q35", "-accel", accel, "-cpu", cpu, "-nodefaults", "-no-user-config", "-display", "none", "-monitor", "none",
		"-kernel", filepath.Join(kernel, "vmlinuz"), "-initrd", filepath.Join(kernel, "initrd"),
		"-append", "console=ttyS0 panic=-1 " + cmdline,
		"-device", "virtio-rng-pci",
	}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// run boots the machine, and waits for its end. It prints how each test ended, and returns an error unless
// all passed.
func (m *machine) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	log, err := os.Create(m.log)
	if err != nil {
		return err
	}
	defer log.Close()
	mode := "testvm.mode=bare"
	if m.full {
		mode = "testvm.mode=full apparmor=1 security=apparmor"
	}
	if m.full && m.only != "" {
		mode += " testvm.run=" + m.only
	}
	if m.accel == "tcg" {
		mode += " testvm.slow=10" // see testenv.Patience
	}
	cmd := qemu(
		ctx, m.accel, m.kernel, mode,
		"-smp", "2", "-m", "3072",
		"-serial", "file:"+m.log+".console",
		// A port of stdio would be closed at the end of stdin.
		"-chardev", "file,id=out,path=/dev/stdout", "-device", "virtio-serial-pci", "-device", "virtserialport,chardev=out,name=testvm",
		// What is written to the disk is forgotten.
		"-drive", "if=none,id=root,format=raw,snapshot=on,file="+m.root, "-device", "virtio-blk-pci,drive=root,serial=root",
		"-drive", "if=none,id=modules,format=raw,readonly=on,file="+filepath.Join(m.kernel, "modules.ext4"), "-device", "virtio-blk-pci,drive=modules,serial=modules",
		"-drive", "if=none,id=payload,format=raw,readonly=on,file="+m.payload, "-device", "virtio-blk-pci,drive=payload,serial=payload",
	)
	if !m.full { // where a panic ends the machine, and is seen
		cmd.Args = append(cmd.Args, "-no-reboot")
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	v := verdict{verbose: m.verbose}
	v.read(io.TeeReader(out, log))
	err = cmd.Wait()
	switch {
	case ctx.Err() == context.DeadlineExceeded:
		err = fmt.Errorf("not done in %s", m.timeout)
	case ctx.Err() != nil:
		err = ctx.Err()
	case err != nil:
		err = fmt.Errorf("qemu: %w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	case !v.done:
		err = errors.New("the machine ended before its tests did")
	}
	if v.now != "" {
		err = fmt.Errorf("%w, in %s", err, v.now)
	}
	if len(v.failed) > 0 {
		err = errors.Join(fmt.Errorf("failed: %s", strings.Join(v.failed, ", ")), err)
	}
	return err
}

// A verdict is what is made of what a guest says.
type verdict struct {
	verbose bool
	now     string // the package whose tests are being run
	failed  []string
	done    bool
}

// read reads to the end. The guest is a stranger too: a line may be anything, of any length.
func (v *verdict) read(r io.Reader) {
	in := bufio.NewReader(r)
	var block []string // of the package, of what it said to show if it fails
	for {
		line, err := in.ReadString('\n')
		line = strings.TrimRight(line, "\r\n")
		if v.verbose && line != "" {
			fmt.Println(line)
		}
		if said, ok := strings.CutPrefix(line, "testvm: "); ok {
			f := strings.Fields(said)
			switch {
			case len(f) == 0:
			case f[0] == "begin" && len(f) == 2:
				v.now, block = f[1], nil
			case f[0] == "end" && len(f) == 4:
				v.end(f[1], f[2], f[3], block)
			case f[0] == "done":
				v.done = true
			case !v.verbose:
				fmt.Println(line)
			}
		} else if line != "" {
			block = append(block, line)
		}
		if err != nil {
			return
		}
	}
}

// end is that of a package.
func (v *verdict) end(pkg, status, seconds string, said []string) {
	v.now = ""
	if status == "0" {
		fmt.Printf("ok   %-32s %5s s\n", pkg, seconds)
		return
	}
	v.failed = append(v.failed, pkg)
	if !v.verbose {
		for _, line := range failures(said) {
			fmt.Println(line)
		}
	}
	if n, err := strconv.Atoi(status); err == nil && n > 128 {
		status = syscall.Signal(n - 128).String()
	}
	fmt.Printf("FAIL %-32s %5s s, status %s\n", pkg, seconds, status)
}

// failures leaves out what testing says of tests that passed.
func failures(said []string) []string {
	var out []string
	var test []string // since it began
	for _, line := range said {
		text := strings.TrimLeft(line, " ")
		switch {
		case strings.HasPrefix(text, "=== "):
			continue
		case strings.HasPrefix(text, "--- PASS"), strings.HasPrefix(text, "--- SKIP"):
			test = nil
			continue
		}
		test = append(test, line)
		if strings.HasPrefix(line, "--- FAIL") || strings.HasPrefix(line, "panic: ") {
			out, test = append(out, test...), nil
		}
	}
	return append(out, test...)
}
