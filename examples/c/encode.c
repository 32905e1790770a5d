/*
 * A prompt and its negative prompt to the embeddings that a UNet reads, raw f32 [2, 77, width]: what
 * `cliptext-run encode PLAN PROMPT --negative NEGATIVE -o OUT.f32` writes.
 *
 *     cc examples/c/encode.c $(pkg-config --cflags --libs cliptext) -o encode
 *     ./encode sd15.plan "a running dog" "blurry" both.f32
 *
 * A fifth argument names the kernel; all give the same bytes.
 */
#include <cliptext.h>
#include <stdio.h>

static int failed(const char *what) {
    fprintf(stderr, "encode: %s: %s\n", what, cliptext_last_error());
    return 1;
}

static int write_out(const char *path, const cliptext_embedding embeddings[2]) {
    FILE *out = fopen(path, "wb");
    int i, good = out != NULL;
    for (i = 0; i < 2 && good; i++) {
        size_t values = embeddings[i].tokens * embeddings[i].width;
        good = fwrite(embeddings[i].hidden, sizeof(float), values, out) == values;
    }
    if (out != NULL && fclose(out) != 0)
        good = 0;
    if (!good)
        perror(path);
    return !good;
}

int main(int argc, char **argv) {
    cliptext_plan *plan = NULL;
    cliptext_encoder *encoder = NULL;
    cliptext_options options = {0};
    cliptext_embedding both[2];
    int outcome;

    if (argc < 5 || argc > 6) {
        fprintf(stderr, "usage: encode PLAN PROMPT NEGATIVE OUT.f32 [KERNEL]\n");
        return 2;
    }
    options.kernel = argc > 5 ? argv[5] : NULL;

    /* CLIPTEXT_MAP instead copies nothing, but asks for a file that nobody changes or cuts meanwhile. */
    if (cliptext_open(argv[1], CLIPTEXT_READ, &plan) != CLIPTEXT_OK)
        return failed(argv[1]);
    if (cliptext_encoder_new(plan, 2, &options, &encoder) != CLIPTEXT_OK ||
        cliptext_encode_pair(encoder, argv[2], CLIPTEXT_CSTR, argv[3], CLIPTEXT_CSTR, 0, both) != CLIPTEXT_OK) {
        outcome = failed("encoding");
    } else {
        if (both[0].truncated || both[1].truncated)
            fprintf(stderr, "encode: a prompt has more than %zu tokens and was cut\n", both[0].tokens);
        /* Before the encoder goes: the embeddings are views of its arena. */
        outcome = write_out(argv[4], both);
    }
    cliptext_encoder_free(encoder);
    cliptext_close(plan);
    return outcome;
}
