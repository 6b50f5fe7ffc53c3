/* A blob service that keeps nothing but sizes: fast enough never to be the bottleneck of a benchmark.
 *
 *   sink PORT_FILE
 *
 * Listens on a free loopback port, writes it to PORT_FILE, and answers what azcopy, rclone, the storage SDK and pep-bridge ask
 * of a container: Put Blob, Put Block, Put Block List, Get Block List, Get Blob Properties, List Blobs. One thread a connection;
 * bodies are thrown away in the kernel. It echoes the checksum that came with a body, as the service does after checking it.
 * The sum of all bodies is written to standard output on SIGTERM. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <ctype.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define HEAD_MAX 65536
#define BUCKETS 65536

struct record { char *key; char *blocks; long long size; struct record *next; };
static struct record *table[BUCKETS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_llong received;

static unsigned hash(const char *s) { unsigned h = 5381; while (*s) h = h * 33 ^ (unsigned char)*s++; return h % BUCKETS; }
static struct record *find(const char *key, int make) {
    unsigned h = hash(key);
    for (struct record *r = table[h]; r; r = r->next) if (!strcmp(r->key, key)) return r;
    if (!make) return NULL;
    struct record *r = calloc(1, sizeof *r);
    r->key = strdup(key); r->next = table[h]; table[h] = r;
    return r;
}

struct connection { int fd; char buffer[HEAD_MAX + 1]; size_t have; };

static int fill(struct connection *c) {
    if (c->have == HEAD_MAX) return -1;
    ssize_t n = recv(c->fd, c->buffer + c->have, HEAD_MAX - c->have, 0);
    if (n <= 0) return -1;
    c->have += n; c->buffer[c->have] = 0;
    return 0;
}
static void drop(struct connection *c, size_t n) { memmove(c->buffer, c->buffer + n, c->have - n + 1); c->have -= n; }
static int discard(struct connection *c, long long n) {
    atomic_fetch_add(&received, n);
    size_t here = (long long)c->have < n ? c->have : (size_t)n;
    drop(c, here); n -= here;
    while (n > 0) { ssize_t got = recv(c->fd, NULL, n > 1 << 20 ? 1 << 20 : n, MSG_TRUNC); if (got <= 0) return -1; n -= got; }
    return 0;
}
static int header(const char *head, const char *name, char *value, size_t size) {
    size_t length = strlen(name);
    for (const char *line = strstr(head, "\r\n"); line; line = strstr(line + 2, "\r\n"))
        if (!strncasecmp(line + 2, name, length) && line[2 + length] == ':') {
            const char *start = line + 3 + length; while (*start == ' ') start++;
            const char *end = strstr(start, "\r\n");
            size_t n = end ? (size_t)(end - start) : strlen(start); if (n >= size) n = size - 1;
            memcpy(value, start, n); value[n] = 0; return 1;
        }
    return 0;
}
static int parameter(const char *query, const char *name, char *value, size_t size) {
    size_t length = strlen(name), n = 0;
    for (const char *at = query; at && *at; at = strchr(at, '&') ? strchr(at, '&') + 1 : NULL)
        if (!strncasecmp(at, name, length) && at[length] == '=') {
            for (at += length + 1; *at && *at != '&' && n + 1 < size; at++) {
                if (*at == '%' && isxdigit((unsigned char)at[1]) && isxdigit((unsigned char)at[2])) { char x[3] = {at[1], at[2], 0}; value[n++] = (char)strtol(x, NULL, 16); at += 2; }
                else value[n++] = *at;
            }
            value[n] = 0; return 1;
        }
    return 0;
}
static int respond(struct connection *c, const char *status, const char *more, const char *body, size_t length, int bodiless) {
    char head[4096];
    int n = snprintf(head, sizeof head, "HTTP/1.1 %s\r\nServer: sink\r\nx-ms-version: 2019-02-02\r\nx-ms-request-id: 0\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\nLast-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\nETag: \"0x1\"\r\n%s", status, more);
    if (!strstr(more, "Content-Length")) n += snprintf(head + n, sizeof head - n, "Content-Length: %zu\r\n", length);
    n += snprintf(head + n, sizeof head - n, "\r\n");
    if (send(c->fd, head, n, MSG_NOSIGNAL | (length && !bodiless ? MSG_MORE : 0)) != n) return -1;
    while (length && !bodiless) { ssize_t sent = send(c->fd, body, length, MSG_NOSIGNAL); if (sent <= 0) return -1; body += sent; length -= sent; }
    return 0;
}

/* Turns <Latest>id</Latest>... into the answer of Get Block List, with the sizes that were staged. */
static void commit(const char *path, const char *body) {
    char *out = malloc(strlen(body) * 3 + 1024); size_t n = 0; long long total = 0;
    pthread_mutex_lock(&lock);
    for (const char *at = body; (at = strchr(at, '<')); ) {
        at++;
        if (strncmp(at, "Latest>", 7) && strncmp(at, "Uncommitted>", 12) && strncmp(at, "Committed>", 10)) continue;
        const char *id = strchr(at, '>') + 1, *end = strchr(id, '<'); if (!end) break;
        char *key; if (asprintf(&key, "%s\n%.*s", path, (int)(end - id), id) < 0) abort();
        struct record *block = find(key, 0); long long size = block ? block->size : 0; free(key);
        total += size;
        n += sprintf(out + n, "<Block><Name>%.*s</Name><Size>%lld</Size></Block>", (int)(end - id), id, size);
        at = end + 1;
    }
    out[n] = 0;
    struct record *blob = find(path, 1); free(blob->blocks); blob->blocks = out; blob->size = total;
    pthread_mutex_unlock(&lock);
}

static int serve(struct connection *c) {
    char *end;
    while (!(end = strstr(c->buffer, "\r\n\r\n"))) if (fill(c)) return -1;
    char head[HEAD_MAX + 1], method[8] = "", target[16384] = "", text[256], more[1024] = "", comp[32] = "", restype[32] = "";
    size_t size = end + 4 - c->buffer;
    memcpy(head, c->buffer, size - 2); head[size - 2] = 0; drop(c, size);
    if (sscanf(head, "%7s %16383s", method, target) != 2) return -1;
    long long length = header(head, "Content-Length", text, sizeof text) ? atoll(text) : 0;
    if (header(head, "Expect", text, sizeof text) && send(c->fd, "HTTP/1.1 100 Continue\r\n\r\n", 25, MSG_NOSIGNAL) < 0) return -1;
    char *query = strchr(target, '?'); if (query) *query++ = 0; else query = target + strlen(target);
    parameter(query, "comp", comp, sizeof comp); parameter(query, "restype", restype, sizeof restype);
    int put = !strcmp(method, "PUT"), asked = !strcmp(method, "HEAD");
    if (put && !strcmp(comp, "blocklist")) {
        char *body = malloc(length + 1); long long got = c->have < (size_t)length ? (long long)c->have : length;
        memcpy(body, c->buffer, got); drop(c, got);
        while (got < length) { ssize_t n = recv(c->fd, body + got, length - got, 0); if (n <= 0) return -1; got += n; }
        body[length] = 0; commit(target, body); free(body);
        return respond(c, "201 Created", "x-ms-request-server-encrypted: true\r\n", "", 0, 0);
    }
    if (put) {
        if (length && discard(c, length)) return -1;
        int n = 0;
        if (header(head, "x-ms-content-crc64", text, sizeof text)) n += snprintf(more + n, sizeof more - n, "x-ms-content-crc64: %s\r\n", text);
        if (header(head, "Content-MD5", text, sizeof text)) n += snprintf(more + n, sizeof more - n, "Content-MD5: %s\r\n", text);
        if (!*restype && strcmp(comp, "properties") && strcmp(comp, "metadata") && strcmp(comp, "tier")) {
            char id[256], *key = target, *made = NULL;
            if (parameter(query, "blockid", id, sizeof id)) { if (asprintf(&made, "%s\n%s", target, id) < 0) abort(); key = made; }
            pthread_mutex_lock(&lock); find(key, 1)->size = length; pthread_mutex_unlock(&lock); free(made);
        }
        return respond(c, "201 Created", more, "", 0, 0);
    }
    if (length && discard(c, length)) return -1;
    if (!strcmp(comp, "blocklist")) {
        char *body = NULL;
        pthread_mutex_lock(&lock);
        struct record *blob = find(target, 0); int committed = parameter(query, "blocklisttype", text, sizeof text) && strcmp(text, "uncommitted");
        int n = asprintf(&body, "<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>%s%s%s</BlockList>", committed ? "<CommittedBlocks>" : "<UncommittedBlocks>", committed && blob && blob->blocks ? blob->blocks : "", committed ? "</CommittedBlocks>" : "</UncommittedBlocks>");
        pthread_mutex_unlock(&lock);
        int bad = blob ? respond(c, "200 OK", "Content-Type: application/xml\r\n", body, n, 0) : respond(c, "404 Not Found", "x-ms-error-code: BlobNotFound\r\n", "", 0, 0);
        free(body); return bad;
    }
    if (!strcmp(comp, "list")) {
        const char *body = "<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults ServiceEndpoint=\"http://127.0.0.1/\" ContainerName=\"c\"><Blobs /><NextMarker /></EnumerationResults>";
        return respond(c, "200 OK", "Content-Type: application/xml\r\n", body, strlen(body), 0);
    }
    if (*restype) return respond(c, "200 OK", "x-ms-account-kind: StorageV2\r\nx-ms-sku-name: Standard_LRS\r\n", "", 0, asked);
    pthread_mutex_lock(&lock); struct record *blob = find(target, 0); long long there = blob ? blob->size : -1; pthread_mutex_unlock(&lock);
    if (there < 0) return respond(c, "404 Not Found", "x-ms-error-code: BlobNotFound\r\n", "", 0, asked);
    snprintf(more, sizeof more, "Content-Length: %lld\r\nContent-Type: application/octet-stream\r\nx-ms-blob-type: BlockBlob\r\nAccept-Ranges: bytes\r\n", there);
    return respond(c, "200 OK", more, "", 0, 1);
}

static void *talk(void *given) {
    struct connection *c = calloc(1, sizeof *c); c->fd = (int)(intptr_t)given;
    int one = 1; setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    while (!serve(c)) ;
    close(c->fd); free(c); return NULL;
}
static void finish(int signal) { (void)signal; char text[64]; int n = snprintf(text, sizeof text, "%lld\n", (long long)received); if (write(1, text, n) < 0) _exit(1); _exit(0); }

int main(int count, char **words) {
    if (count != 2) return 2;
    signal(SIGPIPE, SIG_IGN); signal(SIGTERM, finish);
    int fd = socket(AF_INET, SOCK_STREAM, 0); struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof at;
    if (bind(fd, (void *)&at, length) || listen(fd, 512) || getsockname(fd, (void *)&at, &length)) { perror("sink"); return 1; }
    char part[4096]; snprintf(part, sizeof part, "%s.part", words[1]);
    FILE *file = fopen(part, "w"); if (!file) return 1;
    fprintf(file, "%d", ntohs(at.sin_port)); fclose(file); rename(part, words[1]);
    for (;;) {
        int client = accept(fd, NULL, NULL); if (client < 0) continue;
        pthread_t thread; pthread_attr_t small; pthread_attr_init(&small); pthread_attr_setstacksize(&small, 1 << 20);
        pthread_attr_setdetachstate(&small, PTHREAD_CREATE_DETACHED);
        if (pthread_create(&thread, &small, talk, (void *)(intptr_t)client)) close(client);
    }
}
