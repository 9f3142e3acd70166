//go:build ignore

/*
 * guardian: the parent of a pod's supervisor, which starts it again when it was
 * killed, and ends with it when it has ended by itself.
 *
 *	guardian ARG0 [ARG...]
 *
 * It executes the file that is open as descriptor 4, with these arguments, and reaps
 * what that leaves behind when it is killed. It has no
 * libc, no heap and no writable data, so that it costs a page of stack.
 * guardian.go describes the contract.
 */

enum { READY_FD = 3, PROGRAM_FD = 4, NO_START = 125 };

/* Up to which descriptor the program's table of them has room. */
enum { MANY_FDS = 255 };

/* How long to wait before the next start, in milliseconds, and after which time of
 * running all is forgotten, in seconds. */
enum { FIRST_DELAY = 250, MAX_DELAY = 60000, RESET_AFTER = 600 };

typedef unsigned long u64;

enum { EINTR = 4, SIGCHLD = 17, F_SETFD = 2, FD_CLOEXEC = 1,
       F_DUPFD_CLOEXEC = 1030, PR_SET_NAME = 15,
       PR_SET_CHILD_SUBREAPER = 36, AT_EMPTY_PATH = 0x1000, CLOCK_BOOTTIME = 7,
       SIG_SETMASK = 2, WNOHANG = 1 };

struct timespec { long sec, nsec; };

#if defined(__x86_64__)

enum { SYS_rt_sigprocmask = 14, SYS_clone = 56, SYS_wait4 = 61, SYS_fcntl = 72,
       SYS_rt_sigtimedwait = 128, SYS_prctl = 157, SYS_clock_gettime = 228, SYS_exit_group = 231,
       SYS_dup3 = 292, SYS_execveat = 322 };

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

enum { SYS_dup3 = 24, SYS_fcntl = 25, SYS_exit_group = 94,
       SYS_clock_gettime = 113, SYS_rt_sigprocmask = 135,
       SYS_rt_sigtimedwait = 137, SYS_prctl = 167, SYS_clone = 220,
       SYS_wait4 = 260, SYS_execveat = 281 };

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
#error "guardian knows amd64 and arm64 only"
#endif

static _Noreturn void leave(int status)
{
	for (;;)
		sys(SYS_exit_group, status, 0, 0, 0, 0);
}

/* Time with the machine's sleep in it, in milliseconds. */
static long now(void)
{
	struct timespec t = { 0, 0 };

	sys(SYS_clock_gettime, CLOCK_BOOTTIME, (long)&t, 0, 0, 0);
	return t.sec * 1000 + t.nsec / 1000000;
}

static void mask(u64 signals)
{
	sys(SYS_rt_sigprocmask, SIG_SETMASK, (long)&signals, 0, 8, 0);
}

static const u64 child_signal = 1ul << (SIGCHLD - 1);

/*
 * Wait, and reap orphans meanwhile. A process that was started in a container's PID
 * namespace and whose parent was killed keeps that namespace from ending until it is
 * reaped, and process 1 of the machine may take its time.
 */
static void pause_for(long ms)
{
	long end = now() + ms, left;

	while ((left = end - now()) > 0) {
		struct timespec t = { left / 1000, left % 1000 * 1000000 };

		sys(SYS_rt_sigtimedwait, (long)&child_signal, 0, (long)&t, 8, 0);
		while (sys(SYS_wait4, -1, 0, WNOHANG, 0, 0) > 0)
			;
	}
}

/* Run the program once; returns what wait4(2) tells of it, or -1. */
static int run(char **argv, char **env)
{
	int status = 0;
	long pid = sys(SYS_clone, SIGCHLD, 0, 0, 0, 0), got;

	if (pid == 0) {
		mask(0);
		/* The table of descriptors grows here, and stays as large when this
		 * one is closed by the execution. Where threads share it, that takes
		 * a grace period of RCU, ten milliseconds, expand_fdtable(). */
		sys(SYS_fcntl, PROGRAM_FD, F_DUPFD_CLOEXEC, MANY_FDS, 0, 0);
		sys(SYS_execveat, PROGRAM_FD, (long)"", (long)argv, (long)env,
		    AT_EMPTY_PATH);
		leave(NO_START);
	}
	/* It is told when the first one is ready. Later ones have nobody to tell,
	 * but expect the descriptor. */
	sys(SYS_dup3, 0, READY_FD, 0, 0, 0);
	if (pid < 0)
		return -1;
	do
		got = sys(SYS_wait4, -1, (long)&status, 0, 0, 0);
	while (got == -EINTR || (got > 0 && got != pid));
	return got == pid ? status : -1;
}

/* The kernel leaves argc, argv and the environment on the stack. */
__attribute__((used)) static _Noreturn void start(long *stack)
{
	long argc = stack[0];
	char **argv = (char **)(stack + 1), **env = argv + argc + 1;
	long delay = FIRST_DELAY;

	if (argc < 2)
		leave(NO_START);
	sys(SYS_fcntl, PROGRAM_FD, F_SETFD, FD_CLOEXEC, 0, 0);
	sys(SYS_prctl, PR_SET_NAME, (long)"podbox-guardian", 0, 0, 0);
	sys(SYS_prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	mask(child_signal);
	for (;;) {
		long began = now();
		int status = run(argv + 1, env);

		if (status >= 0 && (status & 0x7f) == 0)
			leave(status >> 8 & 0xff);
		if (now() - began >= RESET_AFTER * 1000l)
			delay = FIRST_DELAY;
		pause_for(delay);
		delay = delay * 2 < MAX_DELAY ? delay * 2 : MAX_DELAY;
	}
}
