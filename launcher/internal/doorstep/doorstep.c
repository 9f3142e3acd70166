//go:build ignore

/*
 * doorstep: what the first process of a container is between its launcher and its
 * program, so that /proc/self/exe is this file, and not the launcher's, while the
 * container decides what is executed.
 *
 *	doorstep PATH... "" ARG0 [ARG...]
 *
 * It executes the first PATH that can be, and leaves what is told of a failure to
 * descriptor 3. It has no libc, no heap and no writable data. doorstep.go describes
 * the contract.
 */

enum { STATUS_FD = 3, NO_START = 127 };

typedef unsigned int u32;
typedef unsigned long u64;

enum { ENOENT = 2, EACCES = 13, ENOTDIR = 20 };
enum { F_SETFD = 2, FD_CLOEXEC = 1 };

#if defined(__x86_64__)

enum { SYS_write = 1, SYS_execve = 59, SYS_fcntl = 72, SYS_exit_group = 231 };

static inline long sys(long nr, long a, long b, long c)
{
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c)
			 : "rcx", "r11", "memory");
	return ret;
}

__asm__(".globl _start\n_start:\n\tmov %rsp, %rdi\n\tcall start\n");

#elif defined(__aarch64__)

enum { SYS_fcntl = 25, SYS_write = 64, SYS_exit_group = 94, SYS_execve = 221 };

static inline long sys(long nr, long a, long b, long c)
{
	register long x8 __asm__("x8") = nr;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;

	__asm__ volatile("svc #0"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2)
			 : "memory");
	return x0;
}

__asm__(".globl _start\n_start:\n\tmov x0, sp\n\tbl start\n");

#else
#error "doorstep knows amd64 and arm64 only"
#endif

static _Noreturn void leave(void)
{
	for (;;)
		sys(SYS_exit_group, NO_START, 0, 0);
}

/*
 * As execvp(3): the next path is tried if one is not there, or may not be
 * executed; and a file that is there but cannot be executed tells more than one
 * that is not there.
 */
static void try(char **paths, u32 n, char **argv, char **env)
{
	struct { u32 path, error; } found = { 0, ENOENT };

	for (u32 i = 0; i < n; i++) {
		u32 error = -sys(SYS_execve, (long)paths[i], (long)argv,
				 (long)env);
		int next = error == ENOENT || error == EACCES ||
			   error == ENOTDIR;

		if (error == ENOTDIR)
			error = ENOENT;
		if (found.error == ENOENT) {
			found.path = i;
			found.error = error;
		}
		if (!next)
			break;
	}
	sys(SYS_write, STATUS_FD, (long)&found, sizeof(found));
}

/* The kernel leaves argc, argv and the environment on the stack. */
__attribute__((used)) static _Noreturn void start(long *stack)
{
	long argc = stack[0];
	char **argv = (char **)(stack + 1), **env = argv + argc + 1;
	u32 n = 1;

	while (n < argc && *argv[n])
		n++;
	if (n + 1 >= argc)
		leave();
	sys(SYS_fcntl, STATUS_FD, F_SETFD, FD_CLOEXEC);
	try(argv + 1, n - 1, argv + n + 1, env);
	leave();
}
