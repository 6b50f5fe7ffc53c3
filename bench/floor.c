/* The floor of the benchmark: what two threads of plain C reach that read, hash (OpenSSL's SHA-256) and send.
 *
 *   floor hash FOLDER            prints nothing, hashes every file
 *   floor send FOLDER PORT       the same, and sends each as a blob to 127.0.0.1:PORT, in blocks of 4 MiB
 *   floor read FOLDER            only reads
 *   floor wire FOLDER PORT       reads and sends, without hashing */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <ftw.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK (4 << 20)
#define SLICE (1 << 20)
static char **paths; static size_t count, room; static atomic_size_t next; static int port, hashing, sending; static size_t root;

static int collect(const char *path, const struct stat *status, int kind, struct FTW *where) {
    (void)status; (void)where;
    if (kind != FTW_F) return 0;
    if (count == room) paths = realloc(paths, (room = room ? room * 2 : 1024) * sizeof *paths);
    paths[count++] = strdup(path); return 0;
}
static void everything(int fd, const char *data, size_t size) { while (size) { ssize_t n = send(fd, data, size, 0); if (n <= 0) { perror("send"); exit(1); } data += n; size -= n; } }
static void answer(int fd) {
    char text[8192]; size_t have = 0;
    do { ssize_t n = recv(fd, text + have, sizeof text - 1 - have, 0); if (n <= 0) { perror("recv"); exit(1); } have += n; text[have] = 0; } while (!strstr(text, "\r\n\r\n"));
    if (strncmp(text + 9, "201", 3)) { fputs(text, stderr); exit(1); }
}
static void *work(void *unused) {
    (void)unused;
    char *buffer = aligned_alloc(4096, BLOCK), head[4096], *list = malloc(1 << 20); int fd = -1; EVP_MD_CTX *digest = EVP_MD_CTX_new();
    if (sending) {
        struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}; int one = 1;
        fd = socket(AF_INET, SOCK_STREAM, 0); setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (connect(fd, (void *)&at, sizeof at)) { perror("connect"); exit(1); }
    }
    for (size_t mine; (mine = next++) < count; ) {
        int file = open(paths[mine], O_RDONLY); struct stat status; if (file < 0 || fstat(file, &status)) { perror(paths[mine]); exit(1); }
        unsigned char sum[EVP_MAX_MD_SIZE]; unsigned length; size_t blocks = 0, n = 0; int whole = status.st_size <= BLOCK;
        EVP_DigestInit_ex(digest, EVP_sha256(), NULL);
        for (off_t done = 0; done < status.st_size || (!done && !status.st_size); ) {
            size_t got = 0, want = status.st_size - done < BLOCK ? status.st_size - done : BLOCK;
            while (got < want) {
                ssize_t r = read(file, buffer + got, want - got < SLICE ? want - got : SLICE); if (r <= 0) { perror("read"); exit(1); }
                if (hashing) EVP_DigestUpdate(digest, buffer + got, r);
                got += r;
            }
            if (sending) {
                int h = whole ? snprintf(head, sizeof head, "PUT /c%s?x HTTP/1.1\r\nHost: s\r\nx-ms-blob-type: BlockBlob\r\nContent-Length: %zu\r\n\r\n", paths[mine] + root, got)
                              : snprintf(head, sizeof head, "PUT /c%s?comp=block&blockid=%08zu HTTP/1.1\r\nHost: s\r\nContent-Length: %zu\r\n\r\n", paths[mine] + root, blocks, got);
                everything(fd, head, h); everything(fd, buffer, got); answer(fd);
                n += sprintf(list + n, "<Latest>%08zu</Latest>", blocks++);
            }
            done += got; if (!status.st_size) break;
        }
        EVP_DigestFinal_ex(digest, sum, &length);
        if (sending && !whole) { int h = snprintf(head, sizeof head, "PUT /c%s?comp=blocklist HTTP/1.1\r\nHost: s\r\nContent-Length: %zu\r\n\r\n", paths[mine] + root, n); everything(fd, head, h); everything(fd, list, n); answer(fd); }
        close(file);
    }
    return NULL;
}
int main(int words, char **word) {
    if (words < 3) return 2;
    hashing = !strcmp(word[1], "hash") || !strcmp(word[1], "send"); sending = !strcmp(word[1], "send") || !strcmp(word[1], "wire");
    if (sending) port = atoi(word[3]);
    root = strlen(word[2]); nftw(word[2], collect, 64, FTW_PHYS);
    pthread_t thread[2]; for (int i = 0; i < 2; i++) pthread_create(&thread[i], NULL, work, NULL);
    for (int i = 0; i < 2; i++) pthread_join(thread[i], NULL);
    return 0;
}
