//go:build ignore

/*
 * reaper: PID 1 of a container that asks for one. It runs the container's
 * program as its only child, forwards signals to it, reaps what is orphaned and
 * ends as the program does.
 *
 *	reaper -v			print the version
 *	reaper -- PROGRAM [ARGUMENT...]	run
 *
 * It has no libc, no heap and no writable data, so that it costs a page of stack.
 * reaper.go describes the contract with the launcher; the comments here say why
 * each call is made.
 */

/* reaper.go repeats the version and the exit statuses. */
#define VERSION "1"
enum { NO_START = 125, NOT_EXECUTABLE = 126, NOT_FOUND = 127, BY_SIGNAL = 128 };

/*
 * The kernel's ABI is written out: a cross compiler often comes without the
 * headers of its target, or finds those of the host. First what both
 * architectures have in common.
 */
typedef unsigned int u32;
typedef unsigned long u64;

enum { EPERM = 1, ENOENT = 2, EINTR = 4, EIO = 5, E2BIG = 7, ENOEXEC = 8,
       EAGAIN = 11, ENOMEM = 12, EACCES = 13, ENODEV = 19, ENOTDIR = 20,
       EINVAL = 22, ETXTBSY = 26, ENAMETOOLONG = 36, ELOOP = 40,
       ETIMEDOUT = 110, ESTALE = 116 };
enum { SIGKILL = 9, SIGCHLD = 17, SIGSTOP = 19, SIG_SETMASK = 2 };
enum { PR_SET_DUMPABLE = 4, PR_SET_NAME = 15, PR_SET_CHILD_SUBREAPER = 36 };
enum { TIOCSPGRP = 0x5410, WNOHANG = 1, PATH_MAX = 4096 };

struct sigaction { u64 handler, flags, restorer, mask; };
struct iovec { const void *base; u64 len; };

#if defined(__x86_64__)

enum { SYS_write = 1, SYS_close = 3, SYS_rt_sigaction = 13,
       SYS_rt_sigprocmask = 14, SYS_ioctl = 16, SYS_writev = 20,
       SYS_getpid = 39, SYS_clone = 56, SYS_execve = 59, SYS_wait4 = 61,
       SYS_kill = 62, SYS_chdir = 80, SYS_setpgid = 109,
       SYS_rt_sigtimedwait = 128, SYS_prctl = 157, SYS_exit_group = 231,
       SYS_close_range = 436 };

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

enum { SYS_ioctl = 29, SYS_chdir = 49, SYS_close = 57, SYS_write = 64,
       SYS_writev = 66, SYS_exit_group = 94, SYS_kill = 129,
       SYS_rt_sigaction = 134, SYS_rt_sigprocmask = 135,
       SYS_rt_sigtimedwait = 137, SYS_setpgid = 154, SYS_prctl = 167,
       SYS_getpid = 172, SYS_clone = 220, SYS_execve = 221,
       SYS_wait4 = 260, SYS_close_range = 436 };

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
#error "reaper knows amd64 and arm64 only"
#endif

static _Noreturn void leave(int status)
{
	for (;;)
		sys(SYS_exit_group, status, 0, 0, 0, 0);
}

static long prctl(long option, long arg)
{
	return sys(SYS_prctl, option, arg, 0, 0, 0);
}

static u64 length(const char *s)
{
	u64 n = 0;

	while (s[n])
		n++;
	return n;
}

static int equal(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return *a == *b;
}

static const char *message(int error)
{
	switch (error) {
	case EPERM: return "operation not permitted";
	case ENOENT: return "no such file or directory";
	case EIO: return "input/output error";
	case E2BIG: return "argument list too long";
	case ENOEXEC: return "exec format error";
	case EAGAIN: return "resource temporarily unavailable";
	case ENOMEM: return "cannot allocate memory";
	case EACCES: return "permission denied";
	case ENOTDIR: return "not a directory";
	case EINVAL: return "invalid argument";
	case ETXTBSY: return "text file busy";
	case ENAMETOOLONG: return "file name too long";
	case ELOOP: return "too many levels of symbolic links";
	default: return "unexpected error";
	}
}

/* One line in one call: others may write there, too. */
static void complain(const char *what, const char *on, const char *why)
{
	const char *const words[] = { "podbox: ", what, on, ": ", why, "\n" };
	enum { N = sizeof(words) / sizeof(words[0]) };
	struct iovec line[N];

	for (int i = 0; i < N; i++) {
		line[i].base = words[i];
		line[i].len = length(words[i]);
	}
	sys(SYS_writev, 2, (long)line, N, 0, 0);
}

/* The kernel's sigset_t is one word on both architectures. */
#define SIGBIT(sig) (1ul << ((sig) - 1))

static const u64 all_signals = ~(SIGBIT(SIGKILL) | SIGBIT(SIGSTOP));

/*
 * All signals are blocked and taken one by one, so none interrupts anything. The
 * kernel drops what PID 1 neither handles nor blocks: between exec and this call
 * a signal would be lost, unless the launcher has blocked it before. One that has
 * blocked all did so for this reason, and the program is to have none blocked.
 *
 * A parent that ignores SIGCHLD learns no exit status, see wait(2), and that
 * survives exec.
 */
static u64 block_signals(void)
{
	static const struct sigaction by_default = { 0 };
	u64 before = 0;

	sys(SYS_rt_sigprocmask, SIG_SETMASK, (long)&all_signals, (long)&before,
	    sizeof(before), 0);
	sys(SYS_rt_sigaction, SIGCHLD, (long)&by_default, 0, sizeof(before), 0);
	return before == all_signals ? 0 : before;
}

static const char *search_path(char **env)
{
	for (; *env; env++) {
		const char *e = *env;

		if (e[0] == 'P' && e[1] == 'A' && e[2] == 'T' && e[3] == 'H' &&
		    e[4] == '=')
			return e + 5;
	}
	return "/bin:/usr/bin";
}

/* Tries dir/name, where an empty dir is the working directory. */
static int exec_in(const char *dir, u64 n, const char *name, char **argv,
		   char **env)
{
	char path[PATH_MAX];
	u64 len = length(name), at = 0;

	if (n + 1 + len + 1 > sizeof(path))
		return ENAMETOOLONG;
	while (at < n)
		path[at] = dir[at], at++;
	if (n > 0)
		path[at++] = '/';
	for (u64 i = 0; i <= len; i++)
		path[at + i] = name[i];
	return -sys(SYS_execve, (long)path, (long)argv, (long)env, 0, 0);
}

/*
 * execvp(3), but for the shell that it starts on a file without a format: a file
 * that is there but cannot be executed tells more than one that is not there.
 */
static int exec(char **argv, char **env)
{
	const char *name = argv[0], *dir, *end;
	int error, found = ENOENT;

	if (!*name)
		return ENOENT;
	for (end = name; *end; end++)
		if (*end == '/')
			return exec_in("", 0, name, argv, env);
	for (dir = search_path(env);; dir = end + 1) {
		for (end = dir; *end && *end != ':'; end++)
			;
		error = exec_in(dir, end - dir, name, argv, env);
		switch (error) {
		case EACCES:
			found = EACCES;
			break;
		case ENOENT: case ENOTDIR: case ENAMETOOLONG: case ENODEV:
		case ESTALE: case ETIMEDOUT:
			break;
		default:
			return error;
		}
		if (!*end)
			return found;
	}
}

/*
 * The child. In a process group of its own it gets what a terminal sends to the
 * foreground, ^C for instance, once: from the terminal, and not from us as well.
 * The terminal is standard input, if anything is. Who takes it from the background
 * is stopped by SIGTTOU, unless that is blocked: tcsetpgrp(3).
 */
static _Noreturn void run(char **argv, char **env, u64 mask)
{
	int error, group = sys(SYS_getpid, 0, 0, 0, 0, 0);

	sys(SYS_setpgid, 0, 0, 0, 0, 0);
	sys(SYS_ioctl, 0, TIOCSPGRP, (long)&group, 0, 0);
	sys(SYS_rt_sigprocmask, SIG_SETMASK, (long)&mask, 0, sizeof(mask), 0);
	error = exec(argv, env);
	complain("exec ", argv[0], message(error));
	leave(error == ENOENT || error == ENOTDIR ? NOT_FOUND : NOT_EXECUTABLE);
}

/*
 * We use no file. An open one would keep a pipe from ending when the program
 * closes it, and a working directory keep a volume from being unmounted.
 */
static void let_go(void)
{
	if (sys(SYS_close_range, 0, ~0U, 0, 0, 0) < 0)
		for (int fd = 0; fd < 3; fd++)
			sys(SYS_close, fd, 0, 0, 0, 0);
	sys(SYS_chdir, (long)"/", 0, 0, 0, 0);
}

/*
 * SIGCHLD stands for any number of children. When the program ends we do, and the
 * kernel kills the rest of the PID namespace: there is nobody left to wait for.
 */
static void reap(long child)
{
	int status;
	long pid;

	while ((pid = sys(SYS_wait4, -1, (long)&status, WNOHANG, 0, 0)) > 0) {
		if (pid != child)
			continue;
		if (status & 0x7f)
			leave(BY_SIGNAL + (status & 0x7f));
		leave(status >> 8 & 0xff);
	}
}

/* A program that has changed its user may be beyond our reach; that is no error. */
static _Noreturn void serve(long child)
{
	for (;;) {
		long sig = sys(SYS_rt_sigtimedwait, (long)&all_signals, 0, 0,
			       sizeof(all_signals), 0);

		if (sig == SIGCHLD)
			reap(child);
		else if (sig > 0)
			sys(SYS_kill, child, sig, 0, 0, 0);
		else if (sig != -EINTR)	/* SIGSTOP, a tracer */
			leave(NO_START);
	}
}

/* The kernel leaves argc, argv and the environment on the stack. */
__attribute__((used)) static _Noreturn void start(long *stack)
{
	static const char version[] = "podbox-reaper " VERSION "\n";
	long argc = stack[0];
	char **argv = (char **)(stack + 1), **env = argv + argc + 1;
	u64 mask;
	long child;

	if (argc > 1 && equal(argv[1], "-v"))
		leave(sys(SYS_write, 1, (long)version, sizeof(version) - 1, 0,
			  0) < 0 ? NO_START : 0);
	if (argc < 3 || !equal(argv[1], "--")) {
		complain("reaper", "", "no program given");
		leave(NO_START);
	}

	/*
	 * Not dumpable: members of the container with our user ID neither trace
	 * this process nor look through its /proc directory, see ptrace(2).
	 * execve makes the program dumpable again. In a PID namespace that has
	 * another PID 1, a subreaper still gets the program's orphans.
	 */
	mask = block_signals();
	prctl(PR_SET_DUMPABLE, 0);
	prctl(PR_SET_NAME, (long)"reaper");
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	child = sys(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	if (child == 0)
		run(argv + 2, env, mask);
	if (child < 0) {
		complain("fork", "", message(-child));
		leave(NO_START);
	}
	let_go();
	serve(child);
}
