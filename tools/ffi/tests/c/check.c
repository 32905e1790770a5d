/*
 * What C alone can show of the library: memory of exactly the size that was asked for, C's own threads, misuse. Run under memory
 * checkers by .ci/capi: check PLAN KERNEL…
 */
#include <cliptext.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                                  \
    do {                                                                                                  \
        if (!(condition)) {                                                                               \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #condition, cliptext_last_error());    \
            exit(1);                                                                                      \
        }                                                                                                 \
    } while (0)

#define DONE(call) CHECK((call) == CLIPTEXT_OK)

/* A call fails with a status and a message that begins so. */
#define FAILS(call, status, message)                                                                      \
    do {                                                                                                  \
        CHECK((call) == (status));                                                                        \
        CHECK(strncmp(cliptext_last_error(), message, strlen(message)) == 0);                             \
    } while (0)

/* Filled with what is no zero, so that nothing relies on zeros. */
static void *memory(size_t bytes) {
    void *place = malloc(bytes);
    CHECK(place != NULL);
    return memset(place, 0xa5, bytes);
}

/* From a multiple of 64 on, and to the last byte the caller's own: what lies behind is a memory checker's. */
static void *aligned(size_t bytes) {
    void *place = NULL;
    CHECK(posix_memalign(&place, 64, bytes) == 0);
    return memset(place, 0xa5, bytes);
}

static void *whole_file(const char *path, size_t *length) {
    FILE *file = fopen(path, "rb");
    void *bytes;
    long end;
    CHECK(file != NULL && fseek(file, 0, SEEK_END) == 0 && (end = ftell(file)) > 0);
    rewind(file);
    *length = (size_t)end;
    bytes = aligned(*length);
    CHECK(fread(bytes, 1, *length, file) == *length && fclose(file) == 0);
    return bytes;
}

/* An encoder in memory of its own. */
struct placed {
    void *memory, *arena;
    cliptext_encoder *encoder;
};

static struct placed place(const cliptext_plan *plan, size_t sequences, const char *kernel) {
    struct placed placed;
    cliptext_options options = {0};
    size_t bytes;
    options.kernel = kernel;
    DONE(cliptext_arena_bytes(plan, sequences, &bytes));
    placed.memory = memory(cliptext_encoder_size());
    placed.arena = aligned(bytes);
    DONE(cliptext_encoder_init(plan, placed.memory, cliptext_encoder_size(), placed.arena, bytes, &options,
                               &placed.encoder));
    return placed;
}

static void displace(struct placed *placed) {
    DONE(cliptext_encoder_free(placed->encoder));
    /* Its memory is still there: that it was ended is told. */
    FAILS(cliptext_encoder_free(placed->encoder), CLIPTEXT_HANDLE, "`encoder` leads to no object");
    free(placed->memory);
    free(placed->arena);
}

static const char *const TEXTS[] = {"a running dog", "", "na\xc3\xafve caf\xc3\xa9", "blurry, low quality"};
enum { COUNT = sizeof TEXTS / sizeof *TEXTS };

/* All ways to the same values. */
static void encode(const cliptext_plan *plan, const cliptext_plan_info *info, const char *kernel) {
    size_t states = info->context * info->width, rows = 0, i, at, truncated = 9;
    float *hidden = memory(COUNT * states * sizeof *hidden), *again = memory(COUNT * states * sizeof *again);
    float *pooled = info->pooled_columns > 0 ? memory(COUNT * info->pooled_columns * sizeof *pooled) : NULL;
    cliptext_text texts[COUNT];
    cliptext_arrays arrays = {0};
    cliptext_embedding view, both[2];
    cliptext_prompt *prompt;
    void *prompt_memory = memory(cliptext_prompt_size());
    struct placed one = place(plan, 1, kernel), two = place(plan, 2, kernel);

    for (i = 0; i < COUNT; i++) {
        /* Without the zero behind it. */
        size_t length = strlen(TEXTS[i]);
        char *copy = memory(length > 0 ? length : 1);
        memcpy(copy, TEXTS[i], length);
        texts[i].text = copy;
        texts[i].length = length;
    }
    arrays.hidden = hidden;
    arrays.hidden_values = COUNT * states;
    arrays.pooled = pooled;
    arrays.pooled_values = COUNT * info->pooled_columns;
    DONE(cliptext_encode_batch(two.encoder, texts, COUNT, 0, &arrays, &truncated));
    CHECK(truncated == 0);
    for (i = 0; i < COUNT; i++) {
        DONE(cliptext_encode(one.encoder, texts[i].text, texts[i].length, 0, &view));
        CHECK(view.tokens == info->context && view.width == info->width);
        CHECK(memcmp(view.hidden, hidden + i * states, states * sizeof *hidden) == 0);
        CHECK((view.pooled == NULL) == (info->pooled_columns == 0));
        DONE(cliptext_encode_pair(two.encoder, texts[i].text, texts[i].length, "blurry", CLIPTEXT_CSTR, 0, both));
        CHECK(memcmp(both[0].hidden, hidden + i * states, states * sizeof *hidden) == 0);
        DONE(cliptext_prompt_read(plan, texts[i].text, texts[i].length, NULL, prompt_memory,
                                  cliptext_prompt_size(), &prompt));
        arrays.hidden = again;
        arrays.hidden_values = states;
        arrays.pooled = NULL;
        arrays.pooled_values = 0;
        DONE(cliptext_encode_prompt(one.encoder, prompt, NULL, 0, &arrays));
        CHECK(memcmp(again, hidden + i * states, states * sizeof *hidden) == 0);
    }
    /* Without padding: the first rows. */
    for (i = 0; i < COUNT; i++) {
        size_t count;
        DONE(cliptext_tokenize(plan, texts[i].text, texts[i].length, CLIPTEXT_UNPADDED, NULL, 0, &count, NULL));
        rows += count;
    }
    free(again);
    again = memory(rows * info->width * sizeof *again);
    arrays.hidden = again;
    arrays.hidden_values = rows * info->width;
    DONE(cliptext_encode_batch(one.encoder, texts, COUNT, CLIPTEXT_UNPADDED, &arrays, NULL));
    for (i = 0, at = 0; i < COUNT; i++) {
        uint32_t *ids;
        size_t count, values;
        DONE(cliptext_tokenize(plan, texts[i].text, texts[i].length, CLIPTEXT_UNPADDED, NULL, 0, &count, NULL));
        ids = memory(count * sizeof *ids);
        DONE(cliptext_tokenize(plan, texts[i].text, texts[i].length, CLIPTEXT_UNPADDED, ids, count, &count, NULL));
        values = count * info->width;
        CHECK(memcmp(again + at, hidden + i * states, values * sizeof *hidden) == 0);
        at += values;
        DONE(cliptext_encode_ids(one.encoder, ids, count, &view));
        CHECK(memcmp(view.hidden, hidden + i * states, values * sizeof *hidden) == 0);
        CHECK(memcmp(view.ids, ids, count * sizeof *ids) == 0);
        free(ids);
        free((void *)texts[i].text);
    }
    arrays.hidden_values--;
    texts[0].text = "x";
    texts[0].length = 1;
    FAILS(cliptext_encode_batch(one.encoder, texts, 1, 0, &arrays, NULL), rows * info->width - 1 < states
              ? CLIPTEXT_TOO_SMALL : CLIPTEXT_OK, rows * info->width - 1 < states ? "`hidden` has place" : "");
    displace(&one);
    displace(&two);
    free(prompt_memory);
    free(hidden);
    free(again);
    free(pooled);
}

/* The work of a thread: a plan is everybody's, an encoder its own. */
static void *thread(void *argument) {
    cliptext_plan *plan = argument;
    cliptext_encoder *encoder;
    cliptext_options options = {0};
    cliptext_embedding view;
    int i;
    options.kernel = "scalar";
    options.threads = 2;
    DONE(cliptext_encoder_new(plan, 1, &options, &encoder));
    CHECK(cliptext_last_error()[0] == 0);
    for (i = 0; i < 2; i++)
        DONE(cliptext_encode(encoder, "a running dog", CLIPTEXT_CSTR, CLIPTEXT_UNPADDED, &view));
    FAILS(cliptext_encode(encoder, "\xff", CLIPTEXT_CSTR, 0, &view), CLIPTEXT_UTF8, "`text` is not UTF-8");
    DONE(cliptext_encoder_free(encoder));
    return NULL;
}

static void misuse(const char *path, const cliptext_plan *plan) {
    cliptext_plan *opened = NULL;
    cliptext_encoder *encoder = NULL;
    cliptext_embedding view;
    pthread_t threads[3];
    size_t i;
    FAILS(cliptext_open(NULL, CLIPTEXT_READ, &opened), CLIPTEXT_NULL, "`path` is null");
    FAILS(cliptext_open("/nowhere", CLIPTEXT_READ, &opened), CLIPTEXT_FILE, "/nowhere: ");
    FAILS(cliptext_open("/", CLIPTEXT_MAP, &opened), CLIPTEXT_FILE, "/: a folder, not a file");
    FAILS(cliptext_open(path, 0, &opened), CLIPTEXT_ARGUMENT, "`flags` must be one of");
    FAILS(cliptext_encoder_new(NULL, 1, NULL, &encoder), CLIPTEXT_NULL, "`plan` is null");
    FAILS(cliptext_encode(NULL, "x", CLIPTEXT_CSTR, 0, &view), CLIPTEXT_NULL, "`encoder` is null");
    FAILS(cliptext_encode((cliptext_encoder *)(uintptr_t)plan, "x", CLIPTEXT_CSTR, 0, &view), CLIPTEXT_HANDLE,
          "`encoder` leads to no object of an encoder");
    CHECK(opened == NULL && encoder == NULL);
    DONE(cliptext_close(NULL));
    DONE(cliptext_encoder_free(NULL));
    DONE(cliptext_pack_close(NULL));

    DONE(cliptext_open(path, CLIPTEXT_READ, &opened));
    for (i = 0; i < sizeof threads / sizeof *threads; i++)
        CHECK(pthread_create(&threads[i], NULL, thread, opened) == 0);
    for (i = 0; i < sizeof threads / sizeof *threads; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    /* An encoder from the heap outlives its plan. */
    DONE(cliptext_encoder_new(opened, 1, NULL, &encoder));
    DONE(cliptext_close(opened));
    cliptext_encoder_free(encoder);
}

int main(int argc, char **argv) {
    cliptext_plan *plan;
    cliptext_plan_info info;
    size_t length;
    void *bytes, *object = memory(cliptext_plan_size());
    int i;
    if (argc < 3) {
        fprintf(stderr, "usage: check PLAN KERNEL...\n");
        return 2;
    }
    CHECK(cliptext_plan_size() <= CLIPTEXT_PLAN_BYTES && cliptext_encoder_size() <= CLIPTEXT_ENCODER_BYTES);
    CHECK(cliptext_prompt_size() <= CLIPTEXT_PROMPT_BYTES && cliptext_pack_size() <= CLIPTEXT_PACK_BYTES);
    bytes = whole_file(argv[1], &length);
    DONE(cliptext_plan_load(bytes, length, object, cliptext_plan_size(), &plan));
    DONE(cliptext_plan_describe(plan, &info));
    for (i = 2; i < argc; i++)
        encode(plan, &info, argv[i]);
    misuse(argv[1], plan);
    free(object);
    free(bytes);
    printf("cliptext %s: done\n", cliptext_version());
    return 0;
}
