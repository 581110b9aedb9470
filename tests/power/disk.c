/* Stands between a program and its disk (LD_PRELOAD) and writes down what is written, renamed and
 * synced below DISK_ROOTS (absolute paths, colon between them), in order, to DISK_LOG. With
 * DISK_FSYNC_FAILS=n one fsync of n fails with EIO, DISK_SEED decides which; with DISK_LIES=1 each says
 * that it worked and did nothing. `tests/power.rs` reads the log and makes of it the disks that a power
 * cut could have left. Linux only, for tests only. */
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
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { CREATE = 1, WRITE, TRUNCATE, SYNC, RENAME, EXCHANGE, LINK, UNLINK, MKDIR, RMDIR, SYNC_ALL, SYNC_FAILED };

struct head {
    uint32_t total, op;
    uint64_t inode, offset, length;
    uint32_t first, second;
} __attribute__((packed));

#define FDS 65536
static uint64_t inodes[FDS]; /* 0: not ours */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int log_fd = -1;
static int lies;
static uint64_t logged, fails, chance = 0x9E3779B97F4A7C15u;
static char roots[2 * PATH_MAX];

#define REAL(name) ((__typeof__(&name))real(#name))
static void *real(const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    if (!found) abort();
    return found;
}

__attribute__((constructor)) static void begin(void) {
    const char *log = getenv("DISK_LOG"), *under = getenv("DISK_ROOTS");
    const char *often = getenv("DISK_FSYNC_FAILS"), *seed = getenv("DISK_SEED");
    if (!log || !under) return;
    snprintf(roots, sizeof roots, "%s", under);
    lies = getenv("DISK_LIES") != 0;
    if (often) fails = strtoull(often, 0, 10);
    if (seed) chance ^= strtoull(seed, 0, 10) << 1;
    log_fd = REAL(open)(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (log_fd < 0) abort();
    /* Out of the way of numbers that the program passes on. */
    int high = fcntl(log_fd, F_DUPFD_CLOEXEC, 1000);
    if (high >= 0) { REAL(close)(log_fd); log_fd = high; }
    logged = (uint64_t)lseek(log_fd, 0, SEEK_END);
}

/* The absolute path, in `out`; whether it is ours. SQLite's shared memory is no file to keep. */
static int ours(int at, const char *path, char *out) {
    if (log_fd < 0 || !path) return 0;
    if (path[0] == '/') {
        snprintf(out, PATH_MAX, "%s", path);
    } else {
        char base[PATH_MAX], link[64];
        ssize_t n;
        if (at == AT_FDCWD) {
            if (!getcwd(base, sizeof base)) return 0;
        } else {
            snprintf(link, sizeof link, "/proc/self/fd/%d", at);
            n = readlink(link, base, sizeof base - 1);
            if (n < 0) return 0;
            base[n] = 0;
        }
        n = snprintf(out, PATH_MAX, "%s/%s", base, path);
        if (n < 0 || n >= PATH_MAX) return 0;
    }
    size_t length = strlen(out);
    while (length > 1 && out[length - 1] == '/') out[--length] = 0;
    if (length > 4 && !strcmp(out + length - 4, "-shm")) return 0;
    for (const char *root = roots; *root;) {
        size_t n = strcspn(root, ":");
        if (!strncmp(out, root, n) && (out[n] == '/' || !out[n])) return 1;
        root += n + (root[n] == ':');
    }
    return 0;
}

static void put(const void *bytes, size_t n) {
    const char *at = bytes;
    while (n > 0) {
        ssize_t done = REAL(write)(log_fd, at, n);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) abort();
        at += done;
        n -= (size_t)done;
        logged += (uint64_t)done;
    }
}

/* Call with the lock held. `data` may be null. */
static void note(uint32_t op, uint64_t inode, uint64_t offset, uint64_t length, const char *first, const char *second,
                 const void *data) {
    int saved = errno;
    size_t a = first ? strlen(first) : 0, b = second ? strlen(second) : 0, n = data ? (size_t)length : 0;
    struct head head = {(uint32_t)(sizeof head + a + b + n), op, inode, offset, length, (uint32_t)a, (uint32_t)b};
    put(&head, sizeof head);
    put(first, a);
    put(second, b);
    put(data, n);
    errno = saved;
}

static uint64_t tracked(int fd) { return fd >= 0 && fd < FDS ? inodes[fd] : 0; }

static uint64_t inode_of(int fd) {
    struct stat found;
    return fstat(fd, &found) == 0 && (S_ISREG(found.st_mode) || S_ISDIR(found.st_mode)) ? found.st_ino : 0;
}

static int opened(int at, const char *path, int flags, mode_t mode) {
    char full[PATH_MAX];
    if (!ours(at, path, full)) {
        int fd = REAL(openat)(at, path, flags, mode);
        if (fd >= 0 && fd < FDS) inodes[fd] = 0;
        return fd;
    }
    pthread_mutex_lock(&lock);
    struct stat before;
    int unnamed = (flags & O_TMPFILE) == O_TMPFILE;
    int fresh = unnamed || ((flags & O_CREAT) && lstat(full, &before) != 0);
    int fd = REAL(openat)(at, path, flags, mode);
    if (fd >= 0 && fd < FDS) {
        inodes[fd] = inode_of(fd);
        if (fresh) note(CREATE, inodes[fd], 0, 0, unnamed ? "" : full, 0, 0);
        else if (inodes[fd] && (flags & O_TRUNC)) note(TRUNCATE, inodes[fd], 0, 0, 0, 0, 0);
    }
    pthread_mutex_unlock(&lock);
    return fd;
}

#define MODE(flags) \
    mode_t mode = 0; \
    if (flags & (O_CREAT | __O_TMPFILE)) { va_list list; va_start(list, flags); mode = va_arg(list, mode_t); va_end(list); }

int open(const char *path, int flags, ...) { MODE(flags) return opened(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags) return opened(AT_FDCWD, path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { MODE(flags) return opened(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE(flags) return opened(at, path, flags, mode); }

int close(int fd) {
    if (fd >= 0 && fd < FDS) inodes[fd] = 0;
    return REAL(close)(fd);
}

int fcntl(int fd, int command, ...) {
    va_list list;
    va_start(list, command);
    void *argument = va_arg(list, void *);
    va_end(list);
    int got = REAL(fcntl)(fd, command, argument);
    if ((command == F_DUPFD || command == F_DUPFD_CLOEXEC) && got >= 0 && got < FDS) inodes[got] = tracked(fd);
    return got;
}
int fcntl64(int fd, int command, ...) {
    va_list list;
    va_start(list, command);
    void *argument = va_arg(list, void *);
    va_end(list);
    return fcntl(fd, command, argument);
}

ssize_t pwrite64(int fd, const void *bytes, size_t n, off64_t offset) {
    if (!tracked(fd)) return REAL(pwrite64)(fd, bytes, n, offset);
    pthread_mutex_lock(&lock);
    ssize_t done = REAL(pwrite64)(fd, bytes, n, offset);
    if (done > 0) note(WRITE, tracked(fd), (uint64_t)offset, (uint64_t)done, 0, 0, bytes);
    pthread_mutex_unlock(&lock);
    return done;
}
ssize_t pwrite(int fd, const void *bytes, size_t n, off_t offset) { return pwrite64(fd, bytes, n, offset); }

ssize_t write(int fd, const void *bytes, size_t n) {
    if (!tracked(fd)) return REAL(write)(fd, bytes, n);
    pthread_mutex_lock(&lock);
    ssize_t done = REAL(write)(fd, bytes, n);
    if (done > 0) note(WRITE, tracked(fd), (uint64_t)(lseek(fd, 0, SEEK_CUR) - done), (uint64_t)done, 0, 0, bytes);
    pthread_mutex_unlock(&lock);
    return done;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    if (!tracked(fd)) return REAL(writev)(fd, parts, count);
    ssize_t all = 0;
    for (int i = 0; i < count; i++) {
        if (!parts[i].iov_len) continue;
        ssize_t done = write(fd, parts[i].iov_base, parts[i].iov_len);
        if (done < 0) return all ? all : done;
        all += done;
        if ((size_t)done < parts[i].iov_len) break;
    }
    return all;
}

int ftruncate64(int fd, off64_t length) {
    if (!tracked(fd)) return REAL(ftruncate64)(fd, length);
    pthread_mutex_lock(&lock);
    int failed = REAL(ftruncate64)(fd, length);
    if (!failed) note(TRUNCATE, tracked(fd), 0, (uint64_t)length, 0, 0, 0);
    pthread_mutex_unlock(&lock);
    return failed;
}
int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

int fallocate64(int fd, int mode, off64_t offset, off64_t length) {
    if (!tracked(fd)) return REAL(fallocate64)(fd, mode, offset, length);
    errno = EOPNOTSUPP;
    return -1;
}
int fallocate(int fd, int mode, off_t offset, off_t length) { return fallocate64(fd, mode, offset, length); }
int posix_fallocate64(int fd, off64_t offset, off64_t length) {
    if (!tracked(fd)) return REAL(posix_fallocate64)(fd, offset, length);
    struct stat found;
    if (fstat(fd, &found) != 0) return errno;
    return found.st_size < offset + length && ftruncate64(fd, offset + length) ? errno : 0;
}
int posix_fallocate(int fd, off_t offset, off_t length) { return posix_fallocate64(fd, offset, length); }

/* Ways to copy past us are not there; the program then reads and writes. */
ssize_t copy_file_range(int a, off64_t *b, int c, off64_t *d, size_t e, unsigned f) {
    (void)a, (void)b, (void)c, (void)d, (void)e, (void)f;
    errno = ENOSYS;
    return -1;
}
ssize_t sendfile64(int out, int in, off64_t *offset, size_t n) {
    if (!tracked(out)) return REAL(sendfile64)(out, in, offset, n);
    errno = ENOSYS;
    return -1;
}
ssize_t splice(int in, off64_t *a, int out, off64_t *b, size_t n, unsigned flags) {
    if (!tracked(out)) return REAL(splice)(in, a, out, b, n, flags);
    errno = EINVAL;
    return -1;
}

static int unlucky(void) {
    if (!fails) return 0;
    chance ^= chance >> 12, chance ^= chance << 25, chance ^= chance >> 27;
    return (chance * 0x2545F4914F6CDD1Du >> 33) % fails == 0;
}

static int synced(int fd, int (*sync)(int)) {
    uint64_t inode = tracked(fd);
    if (!inode) return sync(fd);
    pthread_mutex_lock(&lock);
    uint64_t from = logged;
    int fail = unlucky();
    pthread_mutex_unlock(&lock);
    if (fail) {
        pthread_mutex_lock(&lock);
        note(SYNC_FAILED, inode, from, 0, 0, 0, 0);
        pthread_mutex_unlock(&lock);
        errno = EIO;
        return -1;
    }
    int failed = sync(fd);
    pthread_mutex_lock(&lock);
    if (!failed && !lies) note(SYNC, inode, from, 0, 0, 0, 0);
    pthread_mutex_unlock(&lock);
    return failed;
}
int fsync(int fd) { return synced(fd, REAL(fsync)); }
int fdatasync(int fd) { return synced(fd, REAL(fdatasync)); }
int syncfs(int fd) {
    pthread_mutex_lock(&lock);
    uint64_t from = logged;
    int fail = log_fd >= 0 && unlucky();
    pthread_mutex_unlock(&lock);
    if (fail) {
        errno = EIO;
        return -1;
    }
    int failed = REAL(syncfs)(fd);
    pthread_mutex_lock(&lock);
    if (!failed && !lies && log_fd >= 0) note(SYNC_ALL, 0, from, 0, 0, 0, 0);
    pthread_mutex_unlock(&lock);
    return failed;
}

int renameat2(int from_at, const char *from, int to_at, const char *to, unsigned flags) {
    char first[PATH_MAX], second[PATH_MAX];
    int a = ours(from_at, from, first), b = ours(to_at, to, second);
    pthread_mutex_lock(&lock);
    int failed = (int)REAL(syscall)(SYS_renameat2, from_at, from, to_at, to, flags);
    if (!failed && (a || b)) note(flags & RENAME_EXCHANGE ? EXCHANGE : RENAME, 0, 0, 0, first, second, 0);
    pthread_mutex_unlock(&lock);
    return failed;
}
int rename(const char *from, const char *to) { return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0); }
int renameat(int a, const char *from, int b, const char *to) { return renameat2(a, from, b, to, 0); }

int linkat(int from_at, const char *from, int to_at, const char *to, int flags) {
    char second[PATH_MAX];
    int b = ours(to_at, to, second);
    pthread_mutex_lock(&lock);
    int failed = REAL(linkat)(from_at, from, to_at, to, flags);
    struct stat made;
    if (!failed && b && lstat(second, &made) == 0) note(LINK, made.st_ino, 0, 0, 0, second, 0);
    pthread_mutex_unlock(&lock);
    return failed;
}
int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }

int unlinkat(int at, const char *path, int flags) {
    char full[PATH_MAX];
    int a = ours(at, path, full);
    pthread_mutex_lock(&lock);
    int failed = REAL(unlinkat)(at, path, flags);
    if (!failed && a) note(flags & AT_REMOVEDIR ? RMDIR : UNLINK, 0, 0, 0, full, 0, 0);
    pthread_mutex_unlock(&lock);
    return failed;
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

int mkdirat(int at, const char *path, mode_t mode) {
    char full[PATH_MAX];
    int a = ours(at, path, full);
    pthread_mutex_lock(&lock);
    int failed = REAL(mkdirat)(at, path, mode);
    struct stat made;
    if (!failed && a && lstat(full, &made) == 0) note(MKDIR, made.st_ino, 0, 0, full, 0, 0);
    pthread_mutex_unlock(&lock);
    return failed;
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

/* Calls that the program makes by their number. */
long syscall(long number, ...) {
    va_list list;
    long a[6];
    va_start(list, number);
    for (int i = 0; i < 6; i++) a[i] = va_arg(list, long);
    va_end(list);
    if (number == SYS_renameat2)
        return renameat2((int)a[0], (const char *)a[1], (int)a[2], (const char *)a[3], (unsigned)a[4]);
    if (number == SYS_copy_file_range) {
        errno = ENOSYS;
        return -1;
    }
    return REAL(syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
