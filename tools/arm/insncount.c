/* A QEMU plugin that counts the guest instructions that an aarch64 program executes, by class.
 *
 *   gcc -O2 -shared -fPIC -I <where qemu-plugin.h is, if anywhere> -o insncount.so insncount.c
 *   qemu-aarch64 -cpu cortex-a76 -plugin ./insncount.so,out=FILE program …
 *
 * The stable API's few declarations stand here: not every distribution ships the header.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef uint64_t plugin_id;
extern void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, void (*)(plugin_id, struct qemu_plugin_tb *));
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
extern const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int op, void *, uint64_t);
extern void qemu_plugin_register_atexit_cb(plugin_id, void (*)(plugin_id, void *), void *);
EXPORT int qemu_plugin_version = 1;

/* The classes, by the encodings of the A64 instruction set; the first that fits counts. */
static const struct { const char *name; uint32_t mask, bits; } classes[] = {
    {"sdot", 0xbf20fc00, 0x0e009400},   {"sdot", 0xbf00f400, 0x0f00e000},
    {"smmla", 0xffe0fc00, 0x4e80a400},  {"smull", 0xbf20fc00, 0x0e20c000},
    {"smlal", 0xbf20fc00, 0x0e208000},  {"sadalp", 0xbf3ffc00, 0x0e206800},
    {"fmla", 0xbfa0fc00, 0x0e20cc00},   {"fmla", 0xbf80f400, 0x0f801000},
    {"vector load, store", 0x0e000000, 0x0c000000},
    {"load, store", 0x0a000000, 0x08000000},
    {"other vector", 0x0e000000, 0x0e000000},
    {"branch", 0x1c000000, 0x14000000}, {"integer", 0, 0},
};
enum { CLASSES = sizeof classes / sizeof *classes };
static uint64_t counts[CLASSES];
static char out[4096];

static void translated(plugin_id id, struct qemu_plugin_tb *tb)
{
    uint64_t here[CLASSES] = {0};
    (void)id;
    for (size_t i = 0; i < qemu_plugin_tb_n_insns(tb); i++) {
        uint32_t word;
        int class = 0;
        memcpy(&word, qemu_plugin_insn_data(qemu_plugin_tb_get_insn(tb, i)), 4);
        while ((word & classes[class].mask) != classes[class].bits)
            class++;
        here[class]++;
    }
    for (int class = 0; class < CLASSES; class++)
        if (here[class]) /* 0: add */
            qemu_plugin_register_vcpu_tb_exec_inline(tb, 0, &counts[class], here[class]);
}

static void finished(plugin_id id, void *data)
{
    FILE *file = fopen(out, "w");
    (void)id, (void)data;
    if (!file)
        return;
    for (int class = 0; class < CLASSES; class++)
        fprintf(file, "%s\t%" PRIu64 "\n", classes[class].name, counts[class]);
    fclose(file);
}

EXPORT int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv)
{
    (void)info;
    if (argc != 1 || strncmp(argv[0], "out=", 4) || strlen(argv[0] + 4) >= sizeof out)
        return -1;
    strcpy(out, argv[0] + 4);
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, finished, NULL);
    return 0;
}
