/*
 * Makes one of psid's changes of the disk fail, or ends psid there. LD_PRELOAD loads it into an unmodified
 * psid; shim.rs compiles it and reads the trace.
 *
 *   PSI_SHIM_ROOT   the directory whose changes count
 *   PSI_SHIM_EXCEPT a directory below it that does not count
 *   PSI_SHIM_TRACE  a line for each call: number, call, path, second path or detail, data, errno
 *   PSI_SHIM_AT     the number of the call with the fault; 0: none
 *   PSI_SHIM_HOW    EIO      the call fails
 *                   ENOSPC   the same, but a write stores half of its data first, and the next one fails
 *                   before   SIGKILL in place of the call
 *                   after    the call, then SIGKILL
 *                   torn     half of a write, then SIGKILL
 *
 * One call at a time: the number of a call is its place in the trace, for all threads.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum how { COUNT, FAIL_EIO, FAIL_ENOSPC, KILL_BEFORE, KILL_AFTER, KILL_TORN };

static const char *root, *except;
static long at, count;
static enum how how;
static int trace = -1;
static int disk_is_full; /* half of a write was stored */
static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;

__attribute__((constructor)) static void begin(void)
{
    static const char *const names[] = { "count", "EIO", "ENOSPC", "before", "after", "torn" };
    const char *path = getenv("PSI_SHIM_TRACE"), *wanted = getenv("PSI_SHIM_HOW");

    /* A shell that starts psid passes the variables on; psid's own children are not affected. */
    if (strcmp(program_invocation_short_name, "psid") != 0)
        return;
    unsetenv("LD_PRELOAD");
    root = getenv("PSI_SHIM_ROOT");
    except = getenv("PSI_SHIM_EXCEPT");
    at = atol(getenv("PSI_SHIM_AT") ? getenv("PSI_SHIM_AT") : "0");
    for (size_t i = 0; wanted && i < sizeof names / sizeof *names; i++)
        if (strcmp(wanted, names[i]) == 0)
            how = (enum how)i;
    if (path)
        trace = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static int is_below(const char *path, const char *directory)
{
    size_t length = directory ? strlen(directory) : 0;

    return length && strncmp(path, directory, length) == 0 && (path[length] == '/' || path[length] == 0);
}

static int counts(const char *path)
{
    return is_below(path, root) && !is_below(path, except);
}

/* The path that a descriptor has now; empty when it has none. */
static void path_of(int fd, char out[PATH_MAX])
{
    char link[32];
    ssize_t length;

    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, out, PATH_MAX - 1);
    out[length > 0 ? length : 0] = 0;
}

static void resolve(int directory, const char *path, char out[PATH_MAX])
{
    size_t length;

    if (path[0] == '/') {
        snprintf(out, PATH_MAX, "%s", path);
        return;
    }
    if (directory == AT_FDCWD) {
        if (!getcwd(out, PATH_MAX))
            out[0] = 0;
    } else {
        path_of(directory, out);
    }
    length = strlen(out);
    snprintf(out + length, PATH_MAX - length, "/%s", path);
}

static void note(const char *call, const char *path, const char *other, const void *data, size_t size, int error)
{
    const unsigned char *bytes = data;
    size_t room = 2 * PATH_MAX + 128 + 2 * size, length;
    char *line = malloc(room);

    if (trace < 0 || !line)
        abort();
    length = (size_t)snprintf(line, room, "%ld\t%s\t%s\t%s\t", count, call, path, other);
    for (size_t i = 0; i < size; i++)
        length += (size_t)snprintf(line + length, room - length, "%02x", bytes[i]);
    length += (size_t)snprintf(line + length, room - length, "\t%d\n", error);
    if (syscall(SYS_write, trace, line, length) != (long)length)
        abort();
    free(line);
}

static _Noreturn void die(void)
{
    syscall(SYS_kill, getpid(), SIGKILL);
    for (;;)
        pause();
}

/* Takes a number. True when the call is to fail, with errno set. */
static int fails(const char *call, const char *path, const char *other)
{
    count++;
    if (count != at)
        return 0;
    if (how == KILL_BEFORE || how == KILL_TORN)
        die();
    if (how != FAIL_EIO && how != FAIL_ENOSPC)
        return 0;
    errno = how == FAIL_EIO ? EIO : ENOSPC;
    note(call, path, other, NULL, 0, errno);
    return 1;
}

static void done(const char *call, const char *path, const char *other, const void *data, long result)
{
    int error = result < 0 ? errno : 0;

    note(call, path, other, data, data && result > 0 ? (size_t)result : 0, error);
    if (count == at && how == KILL_AFTER)
        die();
    errno = error;
}

/* A call with these paths, made by `make`, which is a system call. */
#define CHANGE(call, path, other, make)                   \
    do {                                                  \
        long result = -1;                                 \
        pthread_mutex_lock(&one_at_a_time);               \
        if (!fails(call, path, other)) {                  \
            result = (make);                              \
            done(call, path, other, NULL, result);        \
        }                                                 \
        pthread_mutex_unlock(&one_at_a_time);             \
        return (int)result;                               \
    } while (0)

/* ---- files -------------------------------------------------------------------------------------- */

static int opened(int directory, const char *path, int flags, mode_t mode)
{
    char full[PATH_MAX];

    if (!(flags & (O_CREAT | O_TRUNC)))
        return (int)syscall(SYS_openat, directory, path, flags, mode);
    resolve(directory, path, full);
    if (!counts(full))
        return (int)syscall(SYS_openat, directory, path, flags, mode);
    CHANGE(flags & O_EXCL ? "create" : "open", full, flags & O_TRUNC ? "truncate" : "",
           syscall(SYS_openat, directory, path, flags, mode));
}

#define MODE(flags, last)                                                   \
    mode_t mode = 0;                                                        \
    if ((flags) & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY))) {                 \
        va_list more;                                                       \
        va_start(more, last);                                               \
        mode = va_arg(more, mode_t);                                        \
        va_end(more);                                                       \
    }

int open(const char *path, int flags, ...) { MODE(flags, flags) return opened(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags, flags) return opened(AT_FDCWD, path, flags, mode); }
int openat(int directory, const char *path, int flags, ...) { MODE(flags, flags) return opened(directory, path, flags, mode); }
int openat64(int directory, const char *path, int flags, ...) { MODE(flags, flags) return opened(directory, path, flags, mode); }
int creat(const char *path, mode_t mode) { return opened(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

/* `offset` is -1 for where the descriptor stands. */
static ssize_t written(int fd, const void *data, size_t size, off_t offset)
{
    char path[PATH_MAX], place[32];
    long result = -1;
    size_t taken = size;

    path_of(fd, path);
    if (!counts(path))
        return offset < 0 ? syscall(SYS_write, fd, data, size) : syscall(SYS_pwrite64, fd, data, size, offset);
    pthread_mutex_lock(&one_at_a_time);
    if (offset < 0)
        offset = lseek(fd, 0, fcntl(fd, F_GETFL) & O_APPEND ? SEEK_END : SEEK_CUR);
    snprintf(place, sizeof place, "%lld", (long long)offset);
    if (disk_is_full) {
        disk_is_full = 0;
        count++;
        errno = ENOSPC;
        note("write", path, place, NULL, 0, errno);
        goto end;
    }
    if (count + 1 == at && size > 1 && (how == FAIL_ENOSPC || how == KILL_TORN)) {
        count++;
        taken = size / 2;
        disk_is_full = how == FAIL_ENOSPC;
    } else if (fails("write", path, place)) {
        goto end;
    }
    result = syscall(SYS_pwrite64, fd, data, taken, offset);
    if (result > 0)
        lseek(fd, offset + result, SEEK_SET);
    done("write", path, place, data, result);
    if (taken != size && how == KILL_TORN)
        die();
end:
    pthread_mutex_unlock(&one_at_a_time);
    return result;
}

ssize_t write(int fd, const void *data, size_t size) { return written(fd, data, size, -1); }
ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) { return written(fd, data, size, offset); }
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) { return written(fd, data, size, offset); }

ssize_t writev(int fd, const struct iovec *parts, int many)
{
    char path[PATH_MAX];

    path_of(fd, path);
    if (!counts(path))
        return syscall(SYS_writev, fd, parts, many);
    /* A short write is what a caller must bear anyway. */
    return written(fd, parts[0].iov_base, parts[0].iov_len, -1);
}

#define ON_DESCRIPTOR(fd, call, other, make)     \
    char path[PATH_MAX];                         \
    path_of(fd, path);                           \
    if (!counts(path))                           \
        return (int)(make);                      \
    CHANGE(call, path, other, make)

int fsync(int fd) { ON_DESCRIPTOR(fd, "fsync", "", syscall(SYS_fsync, fd)); }
int fdatasync(int fd) { ON_DESCRIPTOR(fd, "fsync", "", syscall(SYS_fdatasync, fd)); }
int syncfs(int fd) { ON_DESCRIPTOR(fd, "sync", "", syscall(SYS_syncfs, fd)); }
int fchmod(int fd, mode_t mode) { ON_DESCRIPTOR(fd, "chmod", "", syscall(SYS_fchmod, fd, mode)); }
int fchown(int fd, uid_t uid, gid_t gid) { ON_DESCRIPTOR(fd, "chown", "", syscall(SYS_fchown, fd, uid, gid)); }

static int truncated(int fd, off_t size)
{
    char place[32];

    snprintf(place, sizeof place, "%lld", (long long)size);
    ON_DESCRIPTOR(fd, "truncate", place, syscall(SYS_ftruncate, fd, size));
}

int ftruncate(int fd, off_t size) { return truncated(fd, size); }
int ftruncate64(int fd, off64_t size) { return truncated(fd, size); }

/* A file system without it: the caller writes instead, and each write is tried. */
static int reserved(int fd, int mode, off_t from, off_t size)
{
    char path[PATH_MAX];

    path_of(fd, path);
    if (!counts(path))
        return (int)syscall(SYS_fallocate, fd, mode, from, size);
    errno = EOPNOTSUPP;
    return -1;
}

int fallocate(int fd, int mode, off_t from, off_t size) { return reserved(fd, mode, from, size); }
int fallocate64(int fd, int mode, off64_t from, off64_t size) { return reserved(fd, mode, from, size); }

static int dated(int directory, const char *path, const struct timespec times[2], int flags)
{
    char full[PATH_MAX], place[32];

    if (path)
        resolve(directory, path, full);
    else
        path_of(directory, full);
    if (!counts(full))
        return (int)syscall(SYS_utimensat, directory, path, times, flags);
    snprintf(place, sizeof place, "%lld", times ? (long long)times[1].tv_sec : -1);
    CHANGE("date", full, place, syscall(SYS_utimensat, directory, path, times, flags));
}

int futimens(int fd, const struct timespec times[2]) { return dated(fd, NULL, times, 0); }
int utimensat(int directory, const char *path, const struct timespec times[2], int flags) { return dated(directory, path, times, flags); }

/* ---- names -------------------------------------------------------------------------------------- */

#define ON_PATH(directory, path, call, other, make) \
    char full[PATH_MAX];                         \
    resolve(directory, path, full);                 \
    if (!counts(full))                           \
        return (int)(make);                      \
    CHANGE(call, full, other, make)

static int unlinked(int directory, const char *path, int flags)
{
    ON_PATH(directory, path, flags & AT_REMOVEDIR ? "rmdir" : "unlink", "", syscall(SYS_unlinkat, directory, path, flags));
}

int unlink(const char *path) { return unlinked(AT_FDCWD, path, 0); }
int unlinkat(int directory, const char *path, int flags) { return unlinked(directory, path, flags); }
int rmdir(const char *path) { return unlinked(AT_FDCWD, path, AT_REMOVEDIR); }

static int made(int directory, const char *path, mode_t mode)
{
    ON_PATH(directory, path, "mkdir", "", syscall(SYS_mkdirat, directory, path, mode));
}

int mkdir(const char *path, mode_t mode) { return made(AT_FDCWD, path, mode); }
int mkdirat(int directory, const char *path, mode_t mode) { return made(directory, path, mode); }

/* The C library's fchmodat has flags, the system call has none; nobody here uses them. */
static int moded(int directory, const char *path, mode_t mode)
{
    ON_PATH(directory, path, "chmod", "", syscall(SYS_fchmodat, directory, path, mode));
}

int chmod(const char *path, mode_t mode) { return moded(AT_FDCWD, path, mode); }
int fchmodat(int directory, const char *path, mode_t mode, int flags) { (void)flags; return moded(directory, path, mode); }

static int owned(int directory, const char *path, uid_t uid, gid_t gid, int flags)
{
    ON_PATH(directory, path, "chown", "", syscall(SYS_fchownat, directory, path, uid, gid, flags));
}

int chown(const char *path, uid_t uid, gid_t gid) { return owned(AT_FDCWD, path, uid, gid, 0); }
int lchown(const char *path, uid_t uid, gid_t gid) { return owned(AT_FDCWD, path, uid, gid, AT_SYMLINK_NOFOLLOW); }
int fchownat(int directory, const char *path, uid_t uid, gid_t gid, int flags) { return owned(directory, path, uid, gid, flags); }

#define ON_PATHS(from_directory, from, to_directory, to, call, make)   \
    char source[PATH_MAX], target[PATH_MAX];                     \
    resolve(from_directory, from, source);                          \
    resolve(to_directory, to, target);                              \
    if (!counts(source) && !counts(target))                      \
        return (int)(make);                                      \
    CHANGE(call, source, target, make)

static int renamed(int from_directory, const char *from, int to_directory, const char *to, unsigned flags)
{
    ON_PATHS(from_directory, from, to_directory, to, "rename", syscall(SYS_renameat2, from_directory, from, to_directory, to, flags));
}

int rename(const char *from, const char *to) { return renamed(AT_FDCWD, from, AT_FDCWD, to, 0); }
int renameat(int ff, const char *from, int tf, const char *to) { return renamed(ff, from, tf, to, 0); }
int renameat2(int ff, const char *from, int tf, const char *to, unsigned flags) { return renamed(ff, from, tf, to, flags); }

static int linked(int from_directory, const char *from, int to_directory, const char *to, int flags)
{
    ON_PATHS(from_directory, from, to_directory, to, "link", syscall(SYS_linkat, from_directory, from, to_directory, to, flags));
}

int link(const char *from, const char *to) { return linked(AT_FDCWD, from, AT_FDCWD, to, 0); }
int linkat(int ff, const char *from, int tf, const char *to, int flags) { return linked(ff, from, tf, to, flags); }

static int symlinked(const char *text, int directory, const char *path)
{
    ON_PATH(directory, path, "symlink", text, syscall(SYS_symlinkat, text, directory, path));
}

int symlink(const char *text, const char *path) { return symlinked(text, AT_FDCWD, path); }
int symlinkat(const char *text, int directory, const char *path) { return symlinked(text, directory, path); }
