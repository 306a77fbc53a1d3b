/* Records what a process does to the files of one directory, for a simulated disk to be made of it later.
 *
 * It is loaded into the server with LD_PRELOAD, so that the server itself stays as it is built.
 *   POWER_CUT_LOG   the file that records are appended to
 *   POWER_CUT_DIR   the directory, as an absolute path without links
 *   POWER_CUT_FAIL  "WHAT NAME N BYTES" fails the N-th call on the file NAME after so many bytes of records were written:
 *                   sync: a sync, once, with EIO; syncs: this one and all later ones
 *                   write: a write, after its first half was written, with EIO; full: with ENOSPC; short: without an error
 *                   NAME may begin with *, and then with the end of a name. Before a slash it may name the thread.
 *
 * A record is six 64-bit numbers (type, inode, offset or result, length of what follows, length of its first part, time in
 * milliseconds) and bytes.
 * Records of writes follow the write, those of answers precede it, and a sync has one before and one after: a power cut between
 * two records is never kinder than the one it stands for. Appending to the log is one system call, so its order is one that was
 * possible.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { START = 1, CREATE, OPEN, WRITE, TRUNCATE, SYNC_BEGIN, SYNC_END, UNLINK, RENAME, REQUEST, ANSWER, MAKE_DIRECTORY, FAILED };

#define MAX_FD 65536
#define MARKER 12 /* "MARK" and eight digits */

static int log_fd = -1;
static const char *dir;
static size_t dir_len;
static char fail_what[16];
static char fail_name[64];
static const char *fail_thread;
static const char *fail_file = fail_name;
static long fail_at;
static long fail_seen;
static long fail_after;
static long written_records;
/* The inode of a file of the directory, by descriptor; 0: another file. */
static uint64_t inode_of[MAX_FD];

static uint64_t now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

static void put(uint64_t type, uint64_t inode, uint64_t number, const void *first, size_t first_len, const void *second,
		size_t second_len)
{
	if (log_fd < 0)
		return;
	int saved = errno;
	uint64_t head[6] = {type, inode, number, first_len + second_len, first_len, now()};
	struct iovec parts[3] = {{head, sizeof head}, {(void *)first, first_len}, {(void *)second, second_len}};
	ssize_t written = syscall(SYS_writev, log_fd, parts, 3);
	if (written != (ssize_t)(sizeof head + first_len + second_len))
		abort();
	errno = saved;
}

__attribute__((constructor)) static void begin(void)
{
	const char *log = getenv("POWER_CUT_LOG");
	dir = getenv("POWER_CUT_DIR");
	if (!log || !dir)
		return;
	dir_len = strlen(dir);
	const char *fail = getenv("POWER_CUT_FAIL");
	if (fail && sscanf(fail, "%15s %63s %ld %ld", fail_what, fail_name, &fail_at, &fail_after) == 4) {
		char *slash = strchr(fail_name, '/');
		if (slash) {
			*slash = 0;
			fail_thread = fail_name;
			fail_file = slash + 1;
		}
	}
	log_fd = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
	put(START, 0, 0, NULL, 0, NULL, 0);
}

/* An absolute path of a file in the directory, or nothing. */
static int is_ours(const char *path)
{
	return dir && !strncmp(path, dir, dir_len) && (path[dir_len] == '/' || !path[dir_len]);
}

static int absolute(int at, const char *path, char *out)
{
	if (path[0] == '/')
		return snprintf(out, PATH_MAX, "%s", path) < PATH_MAX;
	if (at == AT_FDCWD) {
		char here[PATH_MAX];
		return getcwd(here, sizeof here) && snprintf(out, PATH_MAX, "%s/%s", here, path) < PATH_MAX;
	}
	return 0;
}

/* The path of an open file of the directory. */
static int path_of(int fd, char *path)
{
	char link[64];
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	ssize_t len = readlink(link, path, PATH_MAX - 1);
	path[len > 0 ? len : 0] = 0;
	return len > 0 && is_ours(path);
}

/* A part of the log of events. */
static int is_log(const char *path)
{
	size_t len = strlen(path);
	return len > 4 && !strcmp(path + len - 4, ".log");
}

/* Whether this call is the one that has to fail. */
static int fails(int fd, const char *what)
{
	char path[PATH_MAX], thread[16] = "";
	if (!fail_at || strncmp(fail_what, what, strlen(what)) || written_records < fail_after || !path_of(fd, path))
		return 0;
	const char *name = strrchr(path, '/') + 1;
	if (*fail_file == '*') {
		size_t len = strlen(name), end = strlen(fail_file + 1);
		if (len < end || strcmp(name + len - end, fail_file + 1))
			return 0;
	} else if (strcmp(name, fail_file)) {
		return 0;
	}
	pthread_getname_np(pthread_self(), thread, sizeof thread);
	if (fail_thread && strcmp(thread, fail_thread))
		return 0;
	long seen = __sync_add_and_fetch(&fail_seen, 1);
	if (seen != fail_at && !(seen > fail_at && !strcmp(fail_what, "syncs")))
		return 0;
	put(FAILED, 0, 0, NULL, 0, NULL, 0);
	return 1;
}

static void opened(int fd, int existed, int flags)
{
	char path[PATH_MAX];
	struct stat st;
	if (fd < 0 || fd >= MAX_FD)
		return;
	inode_of[fd] = 0;
	if (log_fd < 0)
		return;
	int saved = errno;
	if (path_of(fd, path) && !syscall(SYS_fstat, fd, &st)) {
		inode_of[fd] = st.st_ino;
		put(existed ? OPEN : CREATE, st.st_ino, 0, path, strlen(path), NULL, 0);
		if (existed && (flags & O_TRUNC))
			put(TRUNCATE, st.st_ino, 0, NULL, 0, NULL, 0);
	}
	errno = saved;
}

static int open_at(int at, const char *path, int flags, mode_t mode)
{
	struct stat st;
	int existed = !(flags & O_CREAT) || !fstatat(at, path, &st, 0);
	int fd = syscall(SYS_openat, at, path, flags, mode);
	opened(fd, existed, flags);
	return fd;
}

#define MODE(flags)                                                                                                    \
	mode_t mode = 0;                                                                                               \
	if ((flags) & (O_CREAT | O_TMPFILE)) {                                                                         \
		va_list list;                                                                                          \
		va_start(list, flags);                                                                                 \
		mode = va_arg(list, mode_t);                                                                           \
		va_end(list);                                                                                          \
	}

int open(const char *path, int flags, ...)
{
	MODE(flags)
	return open_at(AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
	MODE(flags)
	return open_at(AT_FDCWD, path, flags, mode);
}

int openat(int at, const char *path, int flags, ...)
{
	MODE(flags)
	return open_at(at, path, flags, mode);
}

int openat64(int at, const char *path, int flags, ...)
{
	MODE(flags)
	return open_at(at, path, flags, mode);
}

int close(int fd)
{
	if (fd >= 0 && fd < MAX_FD)
		inode_of[fd] = 0;
	return syscall(SYS_close, fd);
}

static uint64_t ours(int fd)
{
	return fd >= 0 && fd < MAX_FD ? inode_of[fd] : 0;
}

static void answering(int fd, const void *bytes, size_t len)
{
	static const char good[] = "HTTP/1.1 20";
	if (log_fd >= 0 && len >= sizeof good - 1 && !memcmp(bytes, good, sizeof good - 1))
		put(ANSWER, fd, 0, NULL, 0, NULL, 0);
}

static void asked(int fd, const char *bytes, ssize_t len)
{
	/* The last one: a request comes in one or more pieces. */
	for (ssize_t at = len - MARKER; log_fd >= 0 && at >= 0; at--)
		if (!memcmp(bytes + at, "MARK", 4)) {
			put(REQUEST, fd, 0, bytes + at, MARKER, NULL, 0);
			return;
		}
}

ssize_t pwrite64(int fd, const void *bytes, size_t len, off64_t at)
{
	char path[PATH_MAX];
	int error = 0;
	if (!ours(fd))
		return syscall(SYS_pwrite64, fd, bytes, len, at);
	if (len > 512) {
		if (fails(fd, "write"))
			error = EIO;
		else if (fails(fd, "full"))
			error = ENOSPC;
		if (error || fails(fd, "short"))
			len = len / 1024 * 512;
	}
	ssize_t written = syscall(SYS_pwrite64, fd, bytes, len, at);
	if (written > 0) {
		put(WRITE, ours(fd), at, bytes, written, NULL, 0);
		if (path_of(fd, path) && is_log(path))
			__sync_add_and_fetch(&written_records, written);
	}
	errno = error ? error : errno;
	return error ? -1 : written;
}

ssize_t pwrite(int fd, const void *bytes, size_t len, off_t at)
{
	return pwrite64(fd, bytes, len, at);
}

ssize_t write(int fd, const void *bytes, size_t len)
{
	if (!ours(fd)) {
		answering(fd, bytes, len);
		return syscall(SYS_write, fd, bytes, len);
	}
	/* Nothing in the directory that matters here is appended to. */
	off_t at = lseek(fd, 0, SEEK_CUR);
	ssize_t written = syscall(SYS_write, fd, bytes, len);
	if (written > 0)
		put(WRITE, ours(fd), at, bytes, written, NULL, 0);
	return written;
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
	if (count > 0 && !ours(fd))
		answering(fd, parts[0].iov_base, parts[0].iov_len);
	return syscall(SYS_writev, fd, parts, count);
}

ssize_t send(int fd, const void *bytes, size_t len, int flags)
{
	answering(fd, bytes, len);
	return syscall(SYS_sendto, fd, bytes, len, flags, NULL, 0);
}

ssize_t recv(int fd, void *bytes, size_t len, int flags)
{
	ssize_t got = syscall(SYS_recvfrom, fd, bytes, len, flags, NULL, NULL);
	asked(fd, bytes, got);
	return got;
}

int ftruncate64(int fd, off64_t len)
{
	int result = syscall(SYS_ftruncate, fd, len);
	if (!result && ours(fd))
		put(TRUNCATE, ours(fd), len, NULL, 0, NULL, 0);
	return result;
}

int ftruncate(int fd, off_t len)
{
	return ftruncate64(fd, len);
}

static int synced(int fd, long call)
{
	uint64_t inode = ours(fd);
	if (!inode)
		return syscall(call, fd);
	put(SYNC_BEGIN, inode, 0, NULL, 0, NULL, 0);
	int result = fails(fd, "sync") ? EIO : 0;
	if (!result && syscall(call, fd))
		result = errno;
	put(SYNC_END, inode, result, NULL, 0, NULL, 0);
	errno = result ? result : errno;
	return result ? -1 : 0;
}

int fsync(int fd)
{
	return synced(fd, SYS_fsync);
}

int fdatasync(int fd)
{
	return synced(fd, SYS_fdatasync);
}

int unlinkat(int at, const char *path, int flags)
{
	char whole[PATH_MAX];
	int result = syscall(SYS_unlinkat, at, path, flags);
	if (!result && absolute(at, path, whole) && is_ours(whole))
		put(UNLINK, 0, 0, whole, strlen(whole), NULL, 0);
	return result;
}

int unlink(const char *path)
{
	return unlinkat(AT_FDCWD, path, 0);
}

int rename(const char *from, const char *to)
{
	char first[PATH_MAX], second[PATH_MAX];
	struct stat st;
	int known = !fstatat(AT_FDCWD, from, &st, 0);
	int result = syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
	if (!result && known && absolute(AT_FDCWD, from, first) && absolute(AT_FDCWD, to, second) && is_ours(second))
		put(RENAME, st.st_ino, 0, first, strlen(first), second, strlen(second));
	return result;
}

int mkdir(const char *path, mode_t mode)
{
	char whole[PATH_MAX];
	int result = syscall(SYS_mkdirat, AT_FDCWD, path, mode);
	if (!result && absolute(AT_FDCWD, path, whole) && is_ours(whole) && whole[dir_len])
		put(MAKE_DIRECTORY, 0, 0, whole, strlen(whole), NULL, 0);
	return result;
}
