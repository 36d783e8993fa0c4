/* An environment in C: cc examples/serve_env.c -lzmq -o serve_env && ./serve_env tcp://127.0.0.1:5700
   then run-agent train --env remote+tcp://127.0.0.1:5700 --agent stream-q. The protocol: docs/worlds.md. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <zmq.h>

typedef unsigned char byte;
typedef struct { /* of one client: its puck, and its last answer, for the request that comes again */
    byte identity[256], answer[256];
    int identity_size, answer_size, steps, is_over;
    uint64_t sequence, random;
    float at[2]; /* position and speed */
} Session;

/* msgpack, read: an item is a kind and a number, which is a length or a count where it is no integer */
typedef struct { const byte *at, *end; } Reader;
typedef struct { char kind; uint64_t n; const byte *data; } Item;

static uint64_t number(Reader *r, int size) {
    uint64_t n = 0;
    if (r->end - r->at < size) return r->at = r->end, 0;
    while (size--) n = n << 8 | *r->at++;
    return n;
}

static Item item(Reader *r) {
    unsigned tag = r->at < r->end ? *r->at++ : 0xc1;
    Item i = {'i', tag, r->at};
    if (tag < 0x80 || tag > 0xdf) return i;
    i.kind = tag < 0x90 ? 'm' : tag < 0xa0 ? 'a' : 's';
    i.n = tag & (tag < 0xa0 ? 15 : 31);
    if (tag >= 0xc0) { /* nil, bool, binary, extension, float, integer, extension of fixed size, text, array, map */
        i.kind = "n?nnbbbxxxffiiiiiiiieeeeesssaamm"[tag - 0xc0];
        i.n = number(r, "00001241244812481248000001242424"[tag - 0xc0] - '0');
        if (i.kind == 'e') i.n = 1u << (tag - 0xd4);
        if (i.kind == 'x' || i.kind == 'e') number(r, 1); /* the extension's type */
        i.data = r->at;
    }
    if (strchr("bsxe", i.kind)) r->at = i.n <= (uint64_t)(r->end - r->at) ? r->at + i.n : (i.kind = '?', r->end);
    return i;
}

static void skip(Reader *r) { /* an item with all it holds */
    for (uint64_t left = 1; left && r->at < r->end; left--) {
        Item i = item(r);
        left += i.kind == 'a' ? i.n : i.kind == 'm' ? 2 * i.n : 0;
    }
}

static int is(Item i, const char *text) { return i.kind == 's' && i.n == strlen(text) && !memcmp(i.data, text, i.n); }

static Item find(Reader r, const char *key) { /* in a map; of a list, its first item */
    Item map = item(&r), value = {'?', 0, r.at};
    for (uint64_t k = 0; map.kind == 'm' && k < map.n && r.at < r.end; k++, skip(&r))
        if (is(item(&r), key)) return (value = item(&r)).kind == 'a' ? item(&r) : value;
    return value;
}

/* msgpack, written */
static byte *bytes(byte *out, const void *from, int size) { return (byte *)memcpy(out, from, size) + size; }
static byte *binary(byte *out, const void *from, byte size) { return bytes(bytes(out, (byte[]){0xc4, size}, 2), from, size); }
static byte *text(byte *out, const char *t) { return bytes(bytes(out, (byte[]){0xd9, strlen(t)}, 2), t, strlen(t)); }

static byte *reply(byte *out, uint64_t sequence, const char *outcome) { /* [1, sequence, outcome, ...: body and raw follow */
    out = bytes(out, "\x95\x01\xcf", 3);
    for (int shift = 56; shift >= 0; shift -= 8) *out++ = sequence >> shift;
    return text(out, outcome);
}

static byte *refuse(byte *out, uint64_t sequence, const char *outcome, const char *why) {
    return binary(text(reply(out, sequence, outcome), why), "", 0);
}

static byte *describe(byte *out) { /* a map of five */
    float low = -10, high = 10;
    out = text(bytes(text(bytes(out, "\x85", 1), "observation_space"), "\x95", 1), "box");
    out = binary(binary(bytes(text(out, "<f4"), "\x91\x02", 2), &low, 4), &high, 4); /* shape [2]; the bounds of all are equal */
    out = bytes(text(text(bytes(text(out, "action_space"), "\x94", 1), "discrete"), "<i8"), "\x03\x00", 2); /* 0, 1, 2 */
    out = bytes(text(bytes(text(out, "num_envs"), "\x01", 1), "render_modes"), "\x90", 1);
    return binary(bytes(text(out, "render_fps"), "\xc0", 1), "", 0); /* nil; and no raw bytes */
}

static byte *reset(Session *s, byte *out, Item seed) {
    if (seed.kind == 'i') s->random = seed.n * 2654435761u + 88172645463325252u;
    for (int k = 0; k < 2; k++) { /* xorshift: from -1 to 1 */
        s->random ^= s->random << 13, s->random ^= s->random >> 7, s->random ^= s->random << 17;
        s->at[k] = (s->random >> 40) / 8388608.0f - 1;
    }
    s->steps = s->is_over = 0;
    return binary(bytes(out, "\xc0", 1), s->at, 8);
}

static byte *step(Session *s, byte *out, int64_t action) { /* push the puck left or right, or not: it should rest at 0 */
    byte raw[18]; /* two float32 of the observation, the reward as float64, terminated, truncated */
    s->at[1] = 0.98f * s->at[1] + 0.1f * (action - 1);
    s->at[0] += 0.1f * s->at[1];
    double reward = 1 - fabsf(s->at[0]);
    raw[16] = fabsf(s->at[0]) > 3, raw[17] = ++s->steps >= 200;
    s->is_over = raw[16] || raw[17];
    memcpy(raw, s->at, 8), memcpy(raw + 8, &reward, 8); /* little-endian */
    return binary(bytes(out, "\xc0", 1), raw, sizeof raw);
}

int main(int argc, char **argv) {
    static Session sessions[64];
    static byte request[65536];
    char address[256];
    byte identity[256], unknown[256];
    int on = 1, oldest = 0;
    void *socket = zmq_socket(zmq_ctx_new(), ZMQ_ROUTER);
    zmq_setsockopt(socket, ZMQ_ROUTER_HANDOVER, &on, sizeof on); /* a client that connects again keeps its identity */
    if (argc < 2 || zmq_bind(socket, argv[1])) return fprintf(stderr, "usage: serve_env tcp://127.0.0.1:PORT\n"), 2;
    zmq_getsockopt(socket, ZMQ_LAST_ENDPOINT, address, &(size_t){sizeof address});
    printf("remote+%s\n", address), fflush(stdout);
    for (;;) {
        int size = zmq_recv(socket, identity, sizeof identity, 0), length = zmq_recv(socket, request, sizeof request, 0), more;
        while (zmq_getsockopt(socket, ZMQ_RCVMORE, &more, &(size_t){sizeof more}), more) zmq_recv(socket, NULL, 0, 0), length = 0;
        Reader r = {request, request + (length < 0 || length > (int)sizeof request ? 0 : length)};
        Item array = item(&r), version = item(&r), sequence = item(&r), call = item(&r);
        Reader body = r;
        skip(&r);
        Item raw = item(&r);
        Session *s = NULL;
        for (int k = 0; k < 64; k++)
            if (sessions[k].identity_size == size && !memcmp(sessions[k].identity, identity, size)) s = &sessions[k];
        byte *answer = s ? s->answer : unknown, *out = answer + (s ? s->answer_size : 0); /* asked again: as it was answered */
        if (array.kind != 'a' || array.n != 5 || version.n != 1 || sequence.kind != 'i' || call.kind != 's' || raw.kind != 'b')
            out = refuse(answer = unknown, 0, "refused", "expected a request of version 1");
        else if (is(call, "open") && find(body, "num_envs").n != 1)
            out = refuse(answer = unknown, 0, "refused", "expected num_envs 1: this program serves each client one environment");
        else if (is(call, "open")) {
            out = describe(reply(answer = unknown, 0, "ok"));
            if (!s) { /* where all places are taken, whoever has been here longest is forgotten, and told so when it asks */
                s = &sessions[oldest++ % 64];
                *s = (Session){.identity_size = size, .random = 88172645463325252u + oldest, .is_over = 1};
                memcpy(s->identity, identity, size);
            }
        } else if (!s)
            out = bytes(reply(answer, sequence.n, "unknown"), "\xc0\xc4\0", 3);
        else if (sequence.n == s->sequence + 1) {
            int64_t action = 3;
            if (raw.n == 8) memcpy(&action, raw.data, 8);
            out = reply(answer, s->sequence = sequence.n, "ok");
            if (is(call, "reset")) out = reset(s, out, find(body, "seeds"));
            else if (is(call, "step") && action >= 0 && action < 3 && !s->is_over) out = step(s, out, action);
            else if (is(call, "close")) s->identity_size = 0, out = bytes(out, "\xc0\xc4\0", 3);
            else out = refuse(answer, sequence.n, "failed", "expected reset, or a step of 0, 1 or 2 in an episode");
            s->answer_size = out - answer;
        } else if (sequence.n != s->sequence)
            out = refuse(answer = unknown, sequence.n, "refused", "expected the last request again, or the next one");
        zmq_send(socket, identity, size, ZMQ_SNDMORE);
        zmq_send(socket, answer, out - answer, 0);
    }
}
