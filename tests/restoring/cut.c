/* Ends the process, as a kill does, before the CUT_ATth change of a name or sync below CUT_UNDER (an absolute path):
 * LD_PRELOAD. With CUT_LOG what is counted is written there. `tests/restoring.rs` cuts a restore off everywhere with it.
 * Linux only, for tests only. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))real(#name))
static void *real(const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    if (!found) abort();
    return found;
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long count;

static void step(const char *what, int at, const char *path) {
    const char *under = getenv("CUT_UNDER"), *last = getenv("CUT_AT"), *log = getenv("CUT_LOG");
    char full[PATH_MAX] = "", link[64];
    if (!under || !last) return;
    if (path && path[0] == '/') {
        snprintf(full, sizeof full, "%s", path);
    } else {
        if (at == AT_FDCWD) snprintf(link, sizeof link, "/proc/self/cwd");
        else snprintf(link, sizeof link, "/proc/self/fd/%d", at);
        ssize_t n = readlink(link, full, sizeof full - 1);
        if (n < 0) return;
        snprintf(full + n, sizeof full - (size_t)n, "%s%s", path ? "/" : "", path ? path : "");
    }
    if (strncmp(full, under, strlen(under))) return;
    pthread_mutex_lock(&lock);
    count++;
    if (log) {
        FILE *out = fopen(log, "a");
        if (out) {
            fprintf(out, "%ld %s %s\n", count, what, full + strlen(under));
            fclose(out);
        }
    }
    if (count == atol(last)) raise(SIGKILL);
    pthread_mutex_unlock(&lock);
}

int rename(const char *from, const char *to) {
    step("rename", AT_FDCWD, from);
    return REAL(rename)(from, to);
}

int unlink(const char *path) {
    step("unlink", AT_FDCWD, path);
    return REAL(unlink)(path);
}

int unlinkat(int at, const char *path, int flags) {
    step("unlinkat", at, path);
    return REAL(unlinkat)(at, path, flags);
}

int rmdir(const char *path) {
    step("rmdir", AT_FDCWD, path);
    return REAL(rmdir)(path);
}

int mkdir(const char *path, mode_t mode) {
    step("mkdir", AT_FDCWD, path);
    return REAL(mkdir)(path, mode);
}

int fsync(int fd) {
    step("fsync", fd, 0);
    return REAL(fsync)(fd);
}

int fdatasync(int fd) {
    step("fdatasync", fd, 0);
    return REAL(fdatasync)(fd);
}
