/*
 * Gives psid a boot clock and a wall clock that only a test moves. The monotonic clock, on which psid waits,
 * continues, so a step is like a suspend. LD_PRELOAD loads it into an unmodified psid; see clock.rs.
 *
 *   PSI_CLOCK  a file of two numbers of 64 bits, in the host's byte order: the milliseconds of
 *              CLOCK_BOOTTIME and CLOCK_REALTIME. It is mapped, so that a step takes effect at once.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const struct { _Atomic int64_t boot, wall; } *clocks;

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("PSI_CLOCK");
    void *page;
    int fd;

    /* psid's children keep the host's time. */
    if (strcmp(program_invocation_short_name, "psid") != 0)
        return;
    unsetenv("LD_PRELOAD");
    fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        abort();
    page = mmap(NULL, sizeof *clocks, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (page == MAP_FAILED)
        abort();
    clocks = page;
}

int clock_gettime(clockid_t clock, struct timespec *time)
{
    int64_t millis;

    if (!clocks || (clock != CLOCK_BOOTTIME && clock != CLOCK_REALTIME))
        return (int)syscall(SYS_clock_gettime, clock, time);
    millis = clock == CLOCK_BOOTTIME ? clocks->boot : clocks->wall;
    time->tv_sec = millis / 1000;
    time->tv_nsec = millis % 1000 * 1000000;
    return 0;
}
