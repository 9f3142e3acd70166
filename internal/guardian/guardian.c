//go:build ignore

/*
 * guardian: the parent of a pod's supervisor, which starts it again when it was
 * killed, and ends with it when it has ended by itself.
 *
 *	guardian ARG0 [ARG...]
 *
 * It executes the file that is open as descriptor 4, with these arguments. It has no
 * libc, no heap and no writable data, so that it costs a page of stack.
 * guardian.go describes the contract.
 */

enum { READY_FD = 3, PROGRAM_FD = 4, NO_START = 125 };

/* How long to wait before the next start, in milliseconds, and after which time of
 * running all is forgotten, in seconds. */
enum { FIRST_DELAY = 250, MAX_DELAY = 60000, RESET_AFTER = 600 };

typedef unsigned int u32;

enum { EINTR = 4, SIGCHLD = 17, F_SETFD = 2, FD_CLOEXEC = 1, PR_SET_NAME = 15,
       AT_EMPTY_PATH = 0x1000, CLOCK_BOOTTIME = 7 };

struct timespec { long sec, nsec; };

#if defined(__x86_64__)

enum { SYS_nanosleep = 35, SYS_clone = 56, SYS_wait4 = 61, SYS_fcntl = 72,
       SYS_prctl = 157, SYS_clock_gettime = 228, SYS_exit_group = 231,
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

enum { SYS_dup3 = 24, SYS_fcntl = 25, SYS_exit_group = 94, SYS_nanosleep = 101,
       SYS_clock_gettime = 113, SYS_prctl = 167, SYS_clone = 220,
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

/* Time with the machine's sleep in it. */
static long now(void)
{
	struct timespec t = { 0, 0 };

	sys(SYS_clock_gettime, CLOCK_BOOTTIME, (long)&t, 0, 0, 0);
	return t.sec;
}

static void sleep_for(long ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000 };

	/* A signal leaves in t what is left. */
	while (sys(SYS_nanosleep, (long)&t, (long)&t, 0, 0, 0) == -EINTR)
		;
}

/* Run the program once; returns what wait4(2) tells, or -1. */
static int run(char **argv, char **env)
{
	int status = 0;
	long pid = sys(SYS_clone, SIGCHLD, 0, 0, 0, 0), got;

	if (pid == 0) {
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
		got = sys(SYS_wait4, pid, (long)&status, 0, 0, 0);
	while (got == -EINTR);
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
	for (;;) {
		long began = now();
		int status = run(argv + 1, env);

		if (status >= 0 && (status & 0x7f) == 0)
			leave(status >> 8 & 0xff);
		if (now() - began >= RESET_AFTER)
			delay = FIRST_DELAY;
		sleep_for(delay);
		delay = delay * 2 < MAX_DELAY ? delay * 2 : MAX_DELAY;
	}
}
