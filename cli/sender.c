#include "cli/sender.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { ANSWER_MAX_BYTES = 16384, TIMEOUT_S = 15 };

#define DEFAULT_PATH "/webhooks/whop"

/* --- where to -------------------------------------------------------------------------------- */

/* host:port, with the host in brackets if it holds colons. */
static struct err resolve(const char *host_port, struct sender_target *out)
{
    char host[sizeof out->host];
    struct addrinfo *found = NULL;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    snprintf(host, sizeof host, "%s", host_port);
    char *port = strrchr(host, ':');
    char *begin = host;
    if (port == NULL || strlen(host_port) >= sizeof host)
        return err_make(ERR_USAGE, "\"%s\" is not HOST:PORT", host_port);
    *port++ = '\0';
    size_t len = strlen(host);
    if (len >= 2 && host[0] == '[' && host[len - 1] == ']') {
        host[len - 1] = '\0';
        begin++;
    }
    int status = getaddrinfo(begin, port, &hints, &found);
    if (status != 0)
        return err_make(ERR_USAGE, "%s: %s", host_port, gai_strerror(status));
    memcpy(&out->address, found->ai_addr, found->ai_addrlen);
    out->address_size = found->ai_addrlen;
    freeaddrinfo(found);
    snprintf(out->host, sizeof out->host, "%s", host_port);
    return ERR_NONE;
}

struct err sender_target_of_url(const char *url, struct sender_target *out)
{
    static const char scheme[] = "http://";
    char host_port[sizeof out->host];
    if (strncasecmp(url, scheme, sizeof scheme - 1) != 0)
        return err_make(ERR_USAGE,
                        "\"%.80s\" does not begin with http://: send speaks to ingest itself, "
                        "without TLS",
                        url);
    const char *begin = url + sizeof scheme - 1;
    size_t len = strcspn(begin, "/");
    const char *path = begin[len] == '/' ? begin + len : DEFAULT_PATH;
    if (len + sizeof ":80" > sizeof host_port || strlen(path) >= sizeof out->path ||
        strpbrk(path, " \r\n") != NULL)
        return err_make(ERR_USAGE, "\"%.80s\" is too long or holds blanks", url);
    snprintf(host_port, sizeof host_port, "%.*s", (int)len, begin);
    const char *colon = strrchr(host_port, ':');
    if (colon == NULL || strchr(colon, ']') != NULL)
        snprintf(host_port, sizeof host_port, "%.*s:80", (int)len, begin);
    snprintf(out->path, sizeof out->path, "%s", path);
    return resolve(host_port, out);
}

struct err sender_target_of_listen(const char *listen, struct sender_target *out)
{
    char host_port[sizeof out->host];
    const char *colon = strrchr(listen, ':');
    if (colon == NULL || strlen(listen) + sizeof "127.0.0.1" > sizeof host_port)
        return err_make(ERR_CONFIG, "HTTP_LISTEN \"%.80s\" is not ADDRESS:PORT", listen);
    if (colon == listen || strncmp(listen, "0.0.0.0:", 8) == 0)
        snprintf(host_port, sizeof host_port, "127.0.0.1%s", colon);
    else if (strncmp(listen, "[::]:", 5) == 0)
        snprintf(host_port, sizeof host_port, "[::1]%s", colon);
    else
        snprintf(host_port, sizeof host_port, "%s", listen);
    snprintf(out->path, sizeof out->path, "%s", DEFAULT_PATH);
    return resolve(host_port, out);
}

bool sender_target_is_loopback(const struct sender_target *target)
{
    if (target->address.ss_family == AF_INET) {
        struct sockaddr_in v4;
        memcpy(&v4, &target->address, sizeof v4);
        return ntohl(v4.sin_addr.s_addr) >> 24 == 127;
    }
    struct sockaddr_in6 v6;
    memcpy(&v6, &target->address, sizeof v6);
    return target->address.ss_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&v6.sin6_addr);
}

/* --- one connection -------------------------------------------------------------------------- */

static struct err system_err(const char *what)
{
    if (errno == EAGAIN || errno == EWOULDBLOCK)
        return err_make(ERR_SYSTEM, "%s: no answer within %d s", what, TIMEOUT_S);
    return err_make(ERR_SYSTEM, "%s: %s", what, strerror(errno));
}

static struct err open_connection(const struct sender_target *target, int *out)
{
    struct timeval timeout = {.tv_sec = TIMEOUT_S};
    int fd = socket(target->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return system_err("socket");
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
    if (connect(fd, (const struct sockaddr *)&target->address, target->address_size) != 0) {
        struct err err =
            err_make(ERR_SYSTEM, "cannot connect to %s: %s; is whopline-ingest running?",
                     target->host, strerror(errno));
        close(fd);
        return err;
    }
    *out = fd;
    return ERR_NONE;
}

static struct err write_all(int fd, struct span bytes)
{
    while (bytes.len > 0) {
        ssize_t sent = send(fd, bytes.ptr, bytes.len, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            return system_err("sending");
        bytes.ptr += sent;
        bytes.len -= (size_t)sent;
    }
    return ERR_NONE;
}

/* The value of a header in a complete head, or NULL. */
static const char *find_header(const char *head, const char *name)
{
    size_t len = strlen(name);
    for (const char *line = strstr(head, "\r\n"); line != NULL; line = strstr(line + 2, "\r\n"))
        if (strncasecmp(line + 2, name, len) == 0 && line[2 + len] == ':')
            return line + 3 + len + strspn(line + 3 + len, " ");
    return NULL;
}

/* Reads one answer. keep: whether the connection can carry another request. */
static struct err read_answer(int fd, int *status, bool *keep)
{
    char answer[ANSWER_MAX_BYTES];
    size_t len = 0;
    size_t need = sizeof answer - 1;
    const char *head_end = NULL;
    while (len < need) {
        ssize_t got = recv(fd, answer + len, sizeof answer - 1 - len, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return system_err("waiting for the answer");
        if (got == 0)
            return err_make(ERR_SYSTEM, "the connection was closed without an answer");
        len += (size_t)got;
        answer[len] = '\0';
        if (head_end == NULL && (head_end = strstr(answer, "\r\n\r\n")) != NULL) {
            const char *length = find_header(answer, "content-length");
            unsigned long body = length != NULL ? strtoul(length, NULL, 10) : 0;
            const char *connection = find_header(answer, "connection");
            *keep =
                length != NULL && (connection == NULL || strncasecmp(connection, "close", 5) != 0);
            need = (size_t)(head_end - answer) + 4 + body;
        }
    }
    if (head_end == NULL || strncmp(answer, "HTTP/1.1 ", 9) != 0)
        return err_make(ERR_SYSTEM, "the answer is not HTTP/1.1");
    *status = (int)strtol(answer + 9, NULL, 10);
    return ERR_NONE;
}

static struct err exchange(int fd, struct span request, int *status, bool *keep)
{
    TRY(write_all(fd, request));
    return read_answer(fd, status, keep);
}

/* --- many requests --------------------------------------------------------------------------- */

struct run {
    const struct sender_target *target;
    const struct span *requests;
    size_t count;
    struct sender_result *results;
    atomic_size_t next;
};

static int64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void send_one(struct run *run, size_t index, int *fd)
{
    struct sender_result *result = &run->results[index];
    bool keep = false;
    int64_t begun_us = now_us();
    *result = (struct sender_result){.err = ERR_NONE};
    if (*fd < 0)
        result->err = open_connection(run->target, fd);
    if (!err_failed(&result->err) && *fd >= 0)
        result->err = exchange(*fd, run->requests[index], &result->status, &keep);
    if (*fd >= 0 && !keep) {
        close(*fd);
        *fd = -1;
    }
    result->elapsed_us = now_us() - begun_us;
}

static void *run_thread(void *data)
{
    struct run *run = data;
    int fd = -1;
    size_t index;
    while ((index = atomic_fetch_add(&run->next, 1)) < run->count)
        send_one(run, index, &fd);
    if (fd >= 0)
        close(fd);
    return NULL;
}

void sender_send(const struct sender_target *target, const struct span *requests, size_t count,
                 unsigned parallel, struct sender_result *results)
{
    struct run run = {.target = target, .requests = requests, .count = count, .results = results};
    pthread_t threads[SENDER_PARALLEL_MAX];
    unsigned started = 0;
    REQUIRE(parallel >= 1 && parallel <= SENDER_PARALLEL_MAX);
    /* The caller's thread is one of them, so that a failure to start others costs only speed. */
    while (started + 1 < parallel && started + 1 < count &&
           pthread_create(&threads[started], NULL, run_thread, &run) == 0)
        started++;
    run_thread(&run);
    for (unsigned i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
}
