//go:build ignore

/*
 * pause: PID 1 of a pod. It is born in the namespaces that it holds, reaps what
 * is orphaned there, and waits until the host asks it to leave.
 *
 *	pause -v		print the version
 *	pause: NAME [-p] ...	hold; -p: the pod's members share this PID namespace
 *
 * It has no libc, no heap and no writable data, so that an idle pod costs a page
 * of stack. pause.go describes the contract with its creator; the comments here
 * say why each call is made. Where members of the pod share the PID namespace,
 * they are the adversary: they may run as root, but without capabilities over
 * this process (CAP_SYS_PTRACE, CAP_SYS_RESOURCE).
 */

/* pause.go repeats the version, the descriptor and the exit statuses. */
#define VERSION "1"
#define GATE 3
enum { LEFT, ABANDONED, NO_START, NO_PROC, NO_GROUP, NO_CAPS, NO_PRCTL,
       NO_SECCOMP, NO_WAIT };

/*
 * The kernel's ABI is written out: a cross compiler often comes without the
 * headers of its target, or finds those of the host. First what both
 * architectures have in common.
 */
typedef unsigned int u32;
typedef unsigned long u64;

enum { EPERM = 1, EINTR = 4, EBADF = 9, EINVAL = 22 };
enum { SIGINT = 2, SIGTERM = 15, SIGCHLD = 17, SIG_IGN = 1, SIG_SETMASK = 2,
       SI_USER = 0 };
enum { MS_NOSUID = 2, MS_NODEV = 4, MS_NOEXEC = 8 };
enum { RLIMIT_CPU = 0, RLIMIT_SIGPENDING = 11 };
enum { PR_SET_DUMPABLE = 4, PR_SET_NAME = 15, PR_SET_SECCOMP = 22,
       PR_CAPBSET_DROP = 24, PR_SET_NO_NEW_PRIVS = 38, PR_CAP_AMBIENT = 47,
       PR_CAP_AMBIENT_CLEAR_ALL = 4 };
enum { BPF_LOAD = 0x20, BPF_JUMP_EQUAL = 0x15, BPF_RETURN = 0x06 };

#define NOBODY 65534
#define CAPABILITY_VERSION_3 0x20080522
#define SECCOMP_MODE_FILTER 2
#define SECCOMP_RET_KILL_PROCESS 0x80000000u
#define SECCOMP_RET_ERRNO 0x00050000u
#define SECCOMP_RET_ALLOW 0x7fff0000u

struct sigaction { u64 handler, flags, restorer, mask; };
struct siginfo { int signo, error, code, pad, pid, rest[27]; };
struct rlimit { u64 soft, hard; };
struct cap_header { u32 version; int pid; };
struct cap_data { u32 effective, permitted, inheritable; };
struct bpf_insn { unsigned short op; unsigned char yes, no; u32 value; };
struct bpf_program { unsigned short len; const struct bpf_insn *insn; };
struct seccomp_data { int nr; u32 arch; };

#if defined(__x86_64__)

enum { SYS_read = 0, SYS_write = 1, SYS_close = 3, SYS_rt_sigaction = 13,
       SYS_rt_sigprocmask = 14, SYS_chdir = 80, SYS_setresgid = 119,
       SYS_capset = 126, SYS_rt_sigtimedwait = 128, SYS_prctl = 157,
       SYS_mount = 165, SYS_exit_group = 231, SYS_prlimit = 302,
       SYS_close_range = 436 };
#define NATIVE_ARCH 0xc000003e	/* AUDIT_ARCH_X86_64 */

static inline long sys(long nr, long a, long b, long c, long d, long e)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
			 : "rcx", "r11", "memory");
	return ret;
}

__asm__(".globl _start\n_start:\n\tmov %rsp, %rdi\n\tcall start\n");

#elif defined(__aarch64__)

enum { SYS_mount = 40, SYS_chdir = 49, SYS_close = 57, SYS_read = 63,
       SYS_write = 64, SYS_capset = 91, SYS_exit_group = 94,
       SYS_rt_sigaction = 134, SYS_rt_sigprocmask = 135,
       SYS_rt_sigtimedwait = 137, SYS_setresgid = 149, SYS_prctl = 167,
       SYS_prlimit = 261, SYS_close_range = 436 };
#define NATIVE_ARCH 0xc00000b7	/* AUDIT_ARCH_AARCH64 */

static inline long sys(long nr, long a, long b, long c, long d, long e)
{
	register long x8 __asm__("x8") = nr;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;

	__asm__ volatile("svc #0"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4)
			 : "memory");
	return x0;
}

__asm__(".globl _start\n_start:\n\tmov x0, sp\n\tbl start\n");

#else
#error "pause knows amd64 and arm64 only"
#endif

static _Noreturn void leave(int status)
{
	for (;;)
		sys(SYS_exit_group, status, 0, 0, 0, 0);
}

static void must(long result, int status)
{
	if (result < 0)
		leave(status);
}

static long prctl(long option, long arg2, long arg3)
{
	return sys(SYS_prctl, option, arg2, arg3, 0, 0);
}

/* The kernel's sigset_t is one word on both architectures. */
#define SIGBIT(sig) (1ul << ((sig) - 1))

static const u64 quit_signals = SIGBIT(SIGTERM) | SIGBIT(SIGINT);

/*
 * The creator blocked every signal before exec. SIGTERM and SIGINT stay
 * blocked, so one that came meanwhile is still pending when wait_for_host asks.
 * All others are unblocked: the kernel drops what PID 1 neither handles nor
 * blocks at once, from either side of the namespace, whereas a blocked
 * real-time signal would be queued, and a member could pin kernel memory.
 *
 * A parent that ignores SIGCHLD gets no zombies and is not even woken, see
 * wait(2). That holds for orphans which were dead already when they came here
 * and for those with another exit signal: the kernel sets SIGCHLD and notifies
 * anew when it gives a child to a new parent (reparent_leader, kernel/exit.c).
 */
static void set_signals(void)
{
	struct sigaction ignore = { .handler = SIG_IGN };

	must(sys(SYS_rt_sigprocmask, SIG_SETMASK, (long)&quit_signals, 0,
		 sizeof(quit_signals), 0), NO_START);
	must(sys(SYS_rt_sigaction, SIGCHLD, (long)&ignore, 0,
		 sizeof(quit_signals), 0), NO_START);
}

/*
 * A signal that finds its target's RLIMIT_SIGPENDING used up is delivered
 * without its siginfo, which then reads as all zero: SI_USER from PID 0, just
 * what wait_for_host takes for the host. kill(2) is exempt, sigqueue(3) is not
 * (__send_signal_locked and collect_signal, kernel/signal.c), so a member that
 * fills its user's quota could forge the host's SIGTERM. Without a limit no
 * siginfo is lost, and never are more than two signals queued.
 *
 * An inherited RLIMIT_CPU ends in a SIGKILL that PID 1 is not spared, and a
 * member can make us use CPU by sending signals.
 *
 * Both need CAP_SYS_RESOURCE; a creator without it must give the members a
 * lower RLIMIT_SIGPENDING than ours.
 *
 * prlimit(2) would let a member with our IDs set either limit to 0. It compares
 * the real, effective and saved ID alike: with a saved group that differs from
 * the real one nobody is our equal. The same holds for ptrace(2).
 */
static void resist_members(void)
{
	static const struct rlimit none = { -1, -1 };

	sys(SYS_prlimit, 0, RLIMIT_SIGPENDING, (long)&none, 0, 0);
	sys(SYS_prlimit, 0, RLIMIT_CPU, (long)&none, 0, 0);
	must(sys(SYS_setresgid, -1, -1, NOBODY, 0, 0), NO_GROUP);
}

/*
 * capabilities(7). The bounding set first: to shrink it needs CAP_SETPCAP. Its
 * end is the first number that the running kernel does not know.
 *
 * Not dumpable: neither members with our user ID may attach to this process or
 * look through /proc/1/{root,fd,mem}, see ptrace(2); and no core is written.
 */
static void drop_privileges(void)
{
	struct cap_header header = { .version = CAPABILITY_VERSION_3 };
	struct cap_data none[2] = { { 0 } };
	long ret, cap = 0;

	do
		ret = prctl(PR_CAPBSET_DROP, cap++, 0);
	while (ret == 0);
	if (ret != -EINVAL)
		leave(NO_CAPS);
	must(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0), NO_CAPS);
	must(sys(SYS_capset, (long)&header, (long)none, 0, 0, 0), NO_CAPS);

	must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0), NO_PRCTL);
	must(prctl(PR_SET_DUMPABLE, 0, 0), NO_PRCTL);
	must(prctl(PR_SET_NAME, (long)"pause", 0), NO_PRCTL);
}

/*
 * The creator holds the other end of the pipe and writes one byte when the pod
 * is on record. If it dies before that, at whatever instruction, the pipe ends
 * and so do we: no pause is left that nobody knows of. Without a descriptor
 * there is no creator to wait for: started by hand.
 */
static void pass_gate(void)
{
	char byte;
	long n;

	do
		n = sys(SYS_read, GATE, (long)&byte, 1, 0, 0);
	while (n == -EINTR);
	if (n == -EBADF)
		return;
	if (n != 1)
		leave(ABANDONED);
	sys(SYS_close, GATE, 0, 0, 0, 0);
}

/*
 * From here on two calls suffice. All others fail with EPERM; calls through
 * another table (int $0x80, AArch32) kill, because their numbers mean something
 * else. x32 shares amd64's audit arch, but its numbers have bit 30 set, so they
 * equal none on the list. seccomp(2).
 */
static void seal(void)
{
	static const struct bpf_insn filter[] = {
		{ BPF_LOAD, 0, 0, __builtin_offsetof(struct seccomp_data, arch) },
		{ BPF_JUMP_EQUAL, 1, 0, NATIVE_ARCH },
		{ BPF_RETURN, 0, 0, SECCOMP_RET_KILL_PROCESS },
		{ BPF_LOAD, 0, 0, __builtin_offsetof(struct seccomp_data, nr) },
		{ BPF_JUMP_EQUAL, 2, 0, SYS_rt_sigtimedwait },
		{ BPF_JUMP_EQUAL, 1, 0, SYS_exit_group },
		{ BPF_RETURN, 0, 0, SECCOMP_RET_ERRNO | EPERM },
		{ BPF_RETURN, 0, 0, SECCOMP_RET_ALLOW },
	};
	struct bpf_program program = {
		.len = sizeof(filter) / sizeof(filter[0]),
		.insn = filter,
	};

	must(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, (long)&program),
	     NO_SECCOMP);
}

/*
 * The kernel writes the sender's PID as this namespace sees it: 0 if it does
 * not, which only a sender on the host's side can be. rt_sigqueueinfo(2) lets a
 * member write 0 there itself, but then wants a negative si_code; SI_USER comes
 * from the kernel alone. F_SETOWN with F_SETSIG (fcntl(2)) sends si_code > 0.
 */
static _Noreturn void wait_for_host(void)
{
	struct siginfo info;
	long ret;

	for (;;) {
		ret = sys(SYS_rt_sigtimedwait, (long)&quit_signals,
			  (long)&info, 0, sizeof(quit_signals), 0);
		if (ret > 0 && info.code == SI_USER && info.pid == 0)
			leave(LEFT);
		if (ret < 0 && ret != -EINTR)	/* EINTR: SIGSTOP, a tracer */
			leave(NO_WAIT);
	}
}

static int is_flag(const char *arg, char flag)
{
	return arg[0] == '-' && arg[1] == flag && arg[2] == '\0';
}

/* The kernel leaves argc and argv on the stack. */
__attribute__((used)) static _Noreturn void start(long *stack)
{
	static const char version[] = "podbox-pause " VERSION "\n";
	long argc = stack[0];
	char **argv = (char **)(stack + 1);

	if (argc > 1 && is_flag(argv[1], 'v')) {
		must(sys(SYS_write, 1, (long)version, sizeof(version) - 1, 0,
			 0), NO_START);
		leave(LEFT);
	}

	/*
	 * What needs privilege comes before it is dropped, and all but the seal
	 * before the gate: a pod on record is a hardened one, and nobody joins
	 * it sooner. /proc/1/cwd and /proc/1/fd must lead nowhere; nor may we
	 * hold a copy of the gate's other end, it would never close.
	 */
	set_signals();
	must(sys(SYS_chdir, (long)"/", 0, 0, 0, 0), NO_START);
	must(sys(SYS_close_range, GATE + 1, ~0U, 0, 0, 0), NO_START);
	if (argc > 1 && is_flag(argv[1], 'p')) {
		must(sys(SYS_mount, (long)"proc", (long)"/proc", (long)"proc",
			 MS_NOSUID | MS_NODEV | MS_NOEXEC, 0), NO_PROC);
		resist_members();
	}
	drop_privileges();
	pass_gate();
	seal();
	wait_for_host();
}
