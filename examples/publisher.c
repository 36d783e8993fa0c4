/* A sensor in C: cc examples/publisher.c -lzmq -o publisher && ./publisher tcp://127.0.0.1:5556 1000
   then run-agent record zmq+tcp://127.0.0.1:5556 --out drive.mcap. The format: docs/streams.md. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zmq.h>

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000000000u + t.tv_nsec;
}

static uint32_t crc32(const char *text) {
    uint32_t crc = ~0u;
    for (; *text; text++) {
        crc ^= (unsigned char)*text;
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
    }
    return ~crc;
}

static unsigned char *u64(unsigned char *out, uint64_t value) { /* msgpack: 0xcf, then 8 bytes, the highest first */
    *out++ = 0xcf;
    for (int shift = 56; shift >= 0; shift -= 8) *out++ = value >> shift;
    return out;
}

int main(int argc, char **argv) {
    long count = argc > 2 ? atol(argv[2]) : 1000;
    void *context = zmq_ctx_new(), *socket = zmq_socket(context, ZMQ_XPUB);
    if (argc < 2 || zmq_bind(socket, argv[1])) return fprintf(stderr, "usage: publisher tcp://127.0.0.1:PORT [COUNT]\n"), 2;
    zmq_msg_t subscription; /* what is sent before somebody listens is lost */
    zmq_msg_init(&subscription);
    zmq_msg_recv(&subscription, socket, 0);
    zmq_msg_close(&subscription);
    uint64_t epoch = now();
    for (long i = 0; i < count; i++) {
        float imu[3] = {(float)i, 0.5f * i, 9.81f}; /* little-endian, as '<f4' says */
        unsigned char header[128], *at = header;
        *at++ = 0x97; /* an array of seven */
        *at++ = 1;    /* version */
        at = u64(at, crc32(":<f4:1"));
        at = u64(at, epoch);
        at = u64(at, i);
        at = u64(at, now()); /* captured */
        at = u64(at, now()); /* published */
        memcpy(at, "\x91\x93\xa0\xa3<f4\x91\x03", 9); /* [["", "<f4", [3]]] */
        zmq_send(socket, "imu", 4, ZMQ_SNDMORE); /* with the zero byte */
        zmq_send(socket, header, at + 9 - header, ZMQ_SNDMORE);
        zmq_send(socket, imu, sizeof imu, 0);
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    }
    zmq_close(socket); /* what has not left yet still leaves */
    return zmq_ctx_term(context);
}
