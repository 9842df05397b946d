/* What the attack suites run inside a box: tries things and reports each as one line of JSON.
 *
 * Plain C and static, because it makes calls that no safe wrapper offers: by number, with any argument, in foreign ABIs.
 * Built by the suites with `cc -static -O1`. It never decides whether what it finds is good: that is the suites' part. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static void text(const char *s) {
    putchar('"');
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\') printf("\\%c", c);
        else if (c < 0x20 || c >= 0x7f) printf("\\u%04x", c);
        else putchar(c);
    }
    putchar('"');
}

static void told(const char *what, long ret) {
    int error = ret == -1 ? errno : 0;
    printf("{\"what\":");
    text(what);
    printf(",\"ret\":%ld,\"errno\":%d}\n", ret, error);
    fflush(stdout);
}

/* ---- who am I */

static void field(const char *name, const char *value) {
    printf("{\"what\":");
    text(name);
    printf(",\"is\":");
    text(value);
    printf("}\n");
}

static int self(void) {
    char line[4096], path[300], target[4096];
    FILE *status = fopen("/proc/self/status", "r");
    while (status && fgets(line, sizeof line, status)) {
        char *colon = strchr(line, ':'), *value = colon + 1 + strspn(colon + 1, "\t ");
        *colon = 0;
        value[strcspn(value, "\n")] = 0;
        field(line, value);
    }
    snprintf(line, sizeof line, "%d", getsid(0) == -1 ? -errno : getsid(0));
    field("session", line);
    snprintf(line, sizeof line, "%d", open("/dev/tty", O_RDWR) >= 0);
    field("terminal", line);
    field("folder", getcwd(line, sizeof line) ? line : "?");
    gethostname(line, sizeof line);
    field("hostname", line);
    for (char **e = environ; *e; e++) field("variable", *e);
    DIR *fds = opendir("/proc/self/fd");
    for (struct dirent *d; fds && (d = readdir(fds));) {
        snprintf(path, sizeof path, "/proc/self/fd/%s", d->d_name);
        ssize_t n = readlink(path, target, sizeof target - 1);
        if (d->d_name[0] == '.' || n < 0 || atoi(d->d_name) == dirfd(fds)) continue;
        target[n] = 0;
        /* fopen above and the attempt at /dev/tty are our own */
        if (strcmp(target, "/proc/self/status") && !strstr(target, "/status")) field(path, target);
    }
    DIR *spaces = opendir("/proc/self/ns");
    for (struct dirent *d; spaces && (d = readdir(spaces));) {
        snprintf(path, sizeof path, "/proc/self/ns/%s", d->d_name);
        ssize_t n = d->d_name[0] == '.' ? -1 : readlink(path, target, sizeof target - 1);
        if (n < 0) continue;
        target[n] = 0;
        field(path, target);
    }
    return 0;
}

/* ---- calls by number: NAME=NR:ARG,ARG with @ for a zeroed page, @TEXT for a text, numbers in any base */

static long argument(char *word) {
    if (!word || !*word) return 0;
    if (*word != '@') return (long)strtoul(word, NULL, 0);
    char *page = mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    strncpy(page, word + 1, 4096);
    return (long)page;
}

static int calls(int count, char **words) {
    for (int i = 0; i < count; i++) {
        char *name = words[i], *number = strchr(name, '='), *rest;
        *number++ = 0;
        rest = strchr(number, ':');
        if (rest) *rest++ = 0;
        long a[6] = {0};
        for (int n = 0; n < 6 && rest; n++) {
            char *next = strchr(rest, ',');
            if (next) *next++ = 0;
            a[n] = argument(rest);
            rest = next;
        }
        told(name, syscall(strtol(number, NULL, 0), a[0], a[1], a[2], a[3], a[4], a[5]));
    }
    return 0;
}

static int i386(long number) {
    long ret;
    __asm__ volatile("int $0x80" : "=a"(ret) : "a"(number), "b"(0), "c"(0), "d"(0) : "memory", "r8", "r9", "r10", "r11");
    told("i386", ret);
    return 0;
}

/* ---- hogs: in steps of one megabyte, told on stderr so that the last line says how far it came */

static void step(int megabytes) { dprintf(2, "%d\n", megabytes); }

static int hog(const char *kind, int megabytes) {
    static char block[1 << 20];
    memset(block, 7, sizeof block);
    if (!strcmp(kind, "anon")) {
        for (int i = 1; i <= megabytes; i++) {
            char *p = mmap(NULL, sizeof block, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            if (p == MAP_FAILED) return 3;
            memcpy(p, block, sizeof block);
            step(i);
        }
    } else if (!strcmp(kind, "shared")) {
        for (int i = 1; i <= megabytes; i++) {
            char *p = mmap(NULL, sizeof block, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
            if (p == MAP_FAILED) return 3;
            memcpy(p, block, sizeof block);
            munmap(p + 4096, 0);
            step(i);
        }
    } else if (!strcmp(kind, "sockets")) {
        for (int i = 0; i < megabytes; i++) {
            int pair[2], size = 1 << 20;
            if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair)) return 3;
            setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
            while (write(pair[0], block, 65536) > 0) {}
            step(i);
        }
    } else if (!strcmp(kind, "pipes")) {
        for (int i = 0; i < megabytes; i++) {
            int ends[2];
            if (pipe2(ends, O_NONBLOCK)) return 3;
            fcntl(ends[1], F_SETPIPE_SZ, 1 << 20);
            while (write(ends[1], block, 65536) > 0) {}
            step(i);
        }
    } else {
        int fd = !strcmp(kind, "memfd") ? memfd_create("hog", 0) : open(kind, O_CREAT | O_WRONLY, 0600);
        if (fd < 0) return 3;
        for (int i = 1; i <= megabytes; i++) {
            for (size_t done = 0; done < sizeof block;) {
                ssize_t n = write(fd, block + done, sizeof block - done);
                if (n <= 0) { dprintf(2, "errno %d at %ld\n", errno, (long)lseek(fd, 0, SEEK_CUR)); return 4; }
                done += (size_t)n;
            }
            step(i);
        }
    }
    return 0;
}

static int inodes(const char *folder, int count) {
    char path[4096];
    for (int i = 0; i < count; i++) {
        snprintf(path, sizeof path, "%s/%d", folder, i);
        int fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0600);
        if (fd < 0) { told("inodes", i); return 4; }
        close(fd);
    }
    told("inodes", count);
    return 0;
}

static int bomb(int wanted) {
    int made = 0;
    for (; made < wanted; made++) {
        pid_t child = fork();
        if (child == 0) { pause(); _exit(0); }
        if (child < 0) break;
        dprintf(2, "%d\n", made + 1);
    }
    told("fork", made < wanted ? -1 : made);
    return 0;
}

static int spin(int processes, int milliseconds) {
    for (int i = 0; i < processes; i++)
        if (fork() == 0) {
            struct timespec end, now;
            clock_gettime(CLOCK_MONOTONIC, &end);
            end.tv_sec += milliseconds / 1000;
            do clock_gettime(CLOCK_MONOTONIC, &now);
            while (now.tv_sec < end.tv_sec);
            _exit(0);
        }
    while (wait(NULL) > 0) {}
    return 0;
}

/* ---- survivors: in sessions of their own, deaf to every signal, one of them stopped, the streams kept open */

static int survive(int leaves) {
    for (int i = 0; i < 4; i++) {
        if (fork()) continue;
        setsid();
        if (fork()) _exit(0);
        for (int s = 1; s < 65; s++) signal(s, SIG_IGN);
        if (i == 1) kill(getpid(), SIGSTOP);
        while (i == 2) { // never the same process for long
            if (fork()) _exit(0);
            setsid(), usleep(1000);
        }
        while (1) pause();
    }
    usleep(100000);
    told("survivors", 4);
    if (leaves) return 0;
    while (1) pause();
}

/* ---- what can be written: every file and folder below the paths, not leaving their file systems' first million names */

static int seen;
static int try_write(const char *path, const struct stat *st, int kind, struct FTW *at) {
    char made[4200];
    (void)st;
    if (at->level > 3 || ++seen > 200000) return 0;
    if (kind == FTW_F) {
        int fd = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY);
        if (fd >= 0) { field("writable", path); close(fd); }
    } else if (kind == FTW_D) {
        snprintf(made, sizeof made, "%s/.probe", path);
        int fd = open(made, O_CREAT | O_EXCL | O_WRONLY, 0600);
        if (fd >= 0) { field("writable", path); close(fd); unlink(made); }
    }
    return 0;
}

/* ---- outputs that a collector must survive */

static void put(const char *path, mode_t mode, const char *bytes) {
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    if (fd < 0 || write(fd, bytes, strlen(bytes)) < 0) exit(5);
    fchmod(fd, mode);
    close(fd);
}

static int odd(void) {
    if (chdir("/out")) return 5;
    put("plain", 0644, "plain\n");
    put("new\nline", 0600, "n");
    put("esc\033[2Jape", 0600, "e");
    put("\xff\xfe", 0600, "u");
    put("quote\"}\\x41{\"", 0600, "q");
    put("-rf", 0600, "d");
    put("closed", 0000, "closed");
    put("tool", 0755, "x");
    told("set-id", chmod("tool", 06755));
    told("sticky", chmod("plain", 01644));
    mkdir("locked", 0700), put("locked/in", 0600, "in"), chmod("locked", 0000);
    told("link", symlink("/etc/passwd", "absolute"));
    told("link", symlink("../../../../etc/passwd", "relative"));
    told("link", symlink("/proc/self/environ", "magic"));
    told("link", symlink("..", "up"));
    told("link", link("plain", "again"));
    told("fifo", mknod("fifo", S_IFIFO | 0666, 0));
    told("device", mknod("null", S_IFCHR | 0666, 0x103));
    told("whiteout", mknod("whiteout", S_IFCHR | 0666, 0));
    struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "socket"};
    int s = socket(AF_UNIX, SOCK_STREAM, 0);
    told("socket", bind(s, (struct sockaddr *)&name, sizeof name));
    int sparse = open("sparse", O_CREAT | O_WRONLY, 0600);
    told("sparse", ftruncate(sparse, 1L << 40));
    char deep[] = "d";
    for (int i = 0; i < 60; i++) {
        if (mkdir(deep, 0700) || chdir(deep)) return 5;
        if (i == 10 || i == 50) put("file", 0600, "deep");
    }
    return 0;
}

static int many(int count) {
    char path[100];
    for (int i = 0; i < count; i++) {
        snprintf(path, sizeof path, "/out/%03d", i / 100);
        if (i % 100 == 0) mkdir(path, 0755);
        snprintf(path, sizeof path, "/out/%03d/%05d", i / 100, i);
        int fd = open(path, O_CREAT | O_WRONLY, 0644);
        if (fd < 0 || dprintf(fd, "%d\n", i) < 0) return 5;
        close(fd);
    }
    return 0;
}

/* ---- a call that ends the execution, made by a thread that is interrupted all the time */

static void nothing(int signal) { (void)signal; }
static int interrupted(int number) {
    for (int i = 0; i < 50; i++) {
        pid_t child = fork();
        if (child == 0) { syscall(number, 0, 0, 0, 0); _exit(0); }
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
    }
    struct itimerval often = {.it_interval = {.tv_usec = 100}, .it_value = {.tv_usec = 100}};
    signal(SIGALRM, nothing);
    setitimer(ITIMER_REAL, &often, NULL);
    told("call", syscall(number, 0, 0, 0, 0));
    return 0;
}

static int clocks(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    told("monotonic", now.tv_sec);
    clock_gettime(CLOCK_BOOTTIME, &now);
    told("boottime", now.tv_sec);
    return 0;
}

int main(int argc, char **argv) {
    const char *verb = argc > 1 ? argv[1] : "";
    const char *first = argc > 2 ? argv[2] : "";
    int number = argc > 3 ? atoi(argv[3]) : 0;
    if (!strcmp(verb, "self")) return self();
    if (!strcmp(verb, "calls")) return calls(argc - 2, argv + 2);
    if (!strcmp(verb, "i386")) return i386(atol(first));
    if (!strcmp(verb, "hog")) return hog(first, number);
    if (!strcmp(verb, "inodes")) return inodes(first, number);
    if (!strcmp(verb, "bomb")) return bomb(atoi(first));
    if (!strcmp(verb, "spin")) return spin(atoi(first), number);
    if (!strcmp(verb, "survive")) return survive(!strcmp(first, "leave"));
    if (!strcmp(verb, "odd")) return odd();
    if (!strcmp(verb, "many")) return many(atoi(first));
    if (!strcmp(verb, "interrupted")) return interrupted(atoi(first));
    if (!strcmp(verb, "clocks")) return clocks();
    if (!strcmp(verb, "write")) {
        for (int i = 2; i < argc; i++) nftw(argv[i], try_write, 32, FTW_PHYS);
        told("tried", seen);
        return 0;
    }
    fprintf(stderr, "probe: what is %s?\n", verb);
    return 2;
}
