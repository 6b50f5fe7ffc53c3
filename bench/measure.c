/* measure FILE PROGRAM [ARGUMENT...]: runs a program and writes "status wall_s cpu_s peak_bytes" to FILE.
 *
 * A program of its own because Linux counts the memory of the process that forked into the peak of the program that it became:
 * measured from Python, every small program would seem to need as much as Python. */
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double seconds(struct timeval t) { return t.tv_sec + t.tv_usec / 1e6; }
int main(int count, char **words) {
    if (count < 3) return 2;
    struct timespec start, end; struct rusage usage; int status;
    clock_gettime(CLOCK_MONOTONIC, &start);
    pid_t child = fork();
    if (child < 0) { perror("fork"); return 1; }
    if (!child) { execvp(words[2], words + 2); perror(words[2]); _exit(127); }
    if (wait4(child, &status, 0, &usage) < 0) { perror("wait4"); return 1; }
    clock_gettime(CLOCK_MONOTONIC, &end);
    FILE *file = fopen(words[1], "w"); if (!file) { perror(words[1]); return 1; }
    fprintf(file, "%d %.6f %.6f %ld\n", WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
            end.tv_sec - start.tv_sec + (end.tv_nsec - start.tv_nsec) / 1e9, seconds(usage.ru_utime) + seconds(usage.ru_stime), usage.ru_maxrss * 1024);
    return fclose(file) ? 1 : 0;
}
