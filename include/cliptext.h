/*
 * cliptext: CLIP's text encoder as firmware. Prompts to the embeddings that a diffusion UNet reads, from a compiled plan.
 *
 *     cliptext_plan *plan;
 *     cliptext_encoder *encoder;
 *     cliptext_embedding dog;
 *     if (cliptext_open("sd15.plan", CLIPTEXT_READ, &plan) != CLIPTEXT_OK ||
 *         cliptext_encoder_new(plan, 1, NULL, &encoder) != CLIPTEXT_OK ||
 *         cliptext_encode(encoder, "a running dog", CLIPTEXT_CSTR, 0, &dog) != CLIPTEXT_OK)
 *         return fprintf(stderr, "%s\n", cliptext_last_error()), 1;
 *     fwrite(dog.hidden, sizeof(float), dog.tokens * dog.width, file);
 *     cliptext_encoder_free(encoder);
 *     cliptext_close(plan);
 *
 * What holds for every function:
 *
 * - A status is returned; CLIPTEXT_OK is 0. On an error nothing was done, unless the function says otherwise, and
 *   cliptext_last_error() tells the calling thread what was wrong.
 * - Pointers may be null only where that is said. Null, misaligned and overlapping memory, short buffers, lengths that no memory
 *   has, unknown flags and texts that are not UTF-8 are told. What can't be seen is the caller's word: that a pointer which is
 *   neither null nor misaligned leads to memory of the size given, of C's ordinary kind, which nobody else writes meanwhile.
 * - Objects are told by a tag: another kind of object, or one that was closed and whose memory is still there, is an error.
 *   Using an object after its memory was freed is undefined behaviour, as with free().
 * - Nothing allocates but cliptext_open, cliptext_encoder_new and cliptext_pack_open. Nothing else opens files or starts threads.
 * - Any thread may call any function. A plan may be used by many threads at once, an encoder by one at a time: a second one
 *   gets CLIPTEXT_BUSY. Several encoders of one plan work side by side.
 * - A call takes less than 32 KiB of stack.
 * - Nothing unwinds into C: should the library panic, which no text and no checked plan makes it do, the process is aborted.
 * - The same plan and text give the same bytes on every CPU, by every kernel and any number of threads.
 *
 * Made by cbindgen of tools/ffi/src: do not edit.
 */


#ifndef CLIPTEXT_H
#define CLIPTEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The length of a text that stands for "a C string": up to the zero. */
#define CLIPTEXT_CSTR SIZE_MAX

/* For cliptext_options: as many threads as this machine has fast cores. */
#define CLIPTEXT_ALL_CORES SIZE_MAX

/* For cliptext_prompt_options: as many chunks as the prompt needs. */
#define CLIPTEXT_AUTO_CHUNKS SIZE_MAX

// To open a file: read the whole file into memory, which takes its size in RAM. The file is needed no more.
#define CLIPTEXT_READ 1

// To open a file: map the file. Nothing is copied, processes share it, and the system may drop its pages where memory is short.
// Until the plan is closed nobody may change the file or cut it short: changed bytes are undefined behaviour, and
// a file that was cut, or a storage that fails, ends the process with a bus error (SIGBUS). A new plan is put in the
// place of an old one by renaming.
#define CLIPTEXT_MAP 2

// Bytes of memory that a plan object takes at the most: for a `static` array.
#define CLIPTEXT_PLAN_BYTES 1024

// Characters of a text in `cliptext_plan_info`, with the zero behind it.
#define CLIPTEXT_TEXT_BYTES 65

// The most workers of a team.
#define CLIPTEXT_MAX_WORKERS 1024

// Bytes of memory that an encoder object takes at the most: for a `static` array.
#define CLIPTEXT_ENCODER_BYTES 2048

// For the functions that take texts: only the rows of the text's own tokens, start and end token included, without the padding. They
// equal the first rows with padding bit for bit.
#define CLIPTEXT_UNPADDED 1

// For `cliptext_options`: take the kernel without asking the CPU for it, where it can't be asked: bare metal on aarch64.
// Running instructions that a core does not have is undefined behaviour.
#define CLIPTEXT_ASSUME_KERNEL 1

// Bytes of memory that a prompt object takes at the most: for a `static` array.
#define CLIPTEXT_PROMPT_BYTES 6144

// Bytes of memory that a pack object takes at the most: for a `static` array.
#define CLIPTEXT_PACK_BYTES 512

// What became of a call. The numbers stay what they are from one version to the next.
enum cliptext_status
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  // Done.
  CLIPTEXT_OK = 0,
  // A pointer is null that must not be.
  CLIPTEXT_NULL = 1,
  // An argument is out of its range: an unknown flag, a count of zero, a length that no memory has, memory that overlaps.
  CLIPTEXT_ARGUMENT = 2,
  // A pointer is not at a multiple that it must be at.
  CLIPTEXT_MISALIGNED = 3,
  // A buffer, an arena or the memory for an object is too small; the text says how much is needed.
  CLIPTEXT_TOO_SMALL = 4,
  // A text is not UTF-8.
  CLIPTEXT_UTF8 = 5,
  // A pointer leads to no object of its kind, or to one that was closed.
  CLIPTEXT_HANDLE = 6,
  // The encoder is at work for another thread.
  CLIPTEXT_BUSY = 7,
  // The bytes are no plan that can be run: another kind of file, cut short, damaged.
  CLIPTEXT_PLAN = 8,
  // The plan has a format version that this library does not read.
  CLIPTEXT_VERSION = 9,
  // The plan's weights are packed for another kind of CPU.
  CLIPTEXT_PACKING = 10,
  // There is no kernel of that name, or this CPU lacks its instructions.
  CLIPTEXT_KERNEL = 11,
  // Token ids are too many, none, or not the plan's.
  CLIPTEXT_IDS = 12,
  // The operating system refuses the file; the text has its reason.
  CLIPTEXT_FILE = 13,
  // There is not enough memory.
  CLIPTEXT_MEMORY = 14,
  // The operating system refuses a thread; the text has its reason.
  CLIPTEXT_THREAD = 15,
  // A team of the caller's left a task of a pass undone: what was computed means nothing.
  CLIPTEXT_TEAM = 16,
  // A prompt takes more chunks than there can be, or an option of prompts is unknown.
  CLIPTEXT_PROMPT = 17,
  // The bytes are no prompt pack that can be read: another kind of file, cut short, damaged.
  CLIPTEXT_PACK = 18,
  // The pack has no entry of that name or number.
  CLIPTEXT_ENTRY = 19,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum cliptext_status cliptext_status;
#else
typedef int32_t cliptext_status;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// An encoder: a plan and an arena. One thread at a time may use it, any thread; several encoders of one plan work side by side.
typedef struct cliptext_encoder cliptext_encoder;

// A prompt pack that was checked: a view of its bytes, which it does not own. Any number of threads may use one at once.
typedef struct cliptext_pack cliptext_pack;

// A plan that was checked: a view of its bytes, which it does not own. Any number of threads may use one at once.
typedef struct cliptext_plan cliptext_plan;

// A prompt that was read: chunks of token ids, each with its weight. One thread at a time may use it.
typedef struct cliptext_prompt cliptext_prompt;

// What a plan says of itself.
typedef struct {
  // Tokens of a text, start and end token and padding included: rows of the hidden states of a padded text. 77 for nearly
  // every model.
  size_t context;
  // Columns of the hidden states, of all text towers together.
  size_t width;
  // Columns of the pooled output; 0 where the plan has none.
  size_t pooled_columns;
  // Bytes of arena for one text in a pass.
  size_t arena_bytes;
  // The most texts in one pass.
  size_t max_sequences;
  // Bytes of the whole plan.
  uint64_t file_bytes;
  // Every token id is below.
  uint32_t token_rows;
  // What CLIP multiplies cosines between texts and images with before the softmax; 0 where the model's files do not say.
  float logit_scale;
  // Whether the pooled output is a projection into the space that texts share with images.
  bool projected;
  // Whether no row depends on the rows behind it.
  bool causal;
  // Whether the plan was compiled with `--prefix-cache`: of a text that begins as the one before it, with the same encoder, the common
  // rows are not computed again. The bytes are the same.
  bool keeps_rows;
  // Which plan it is: SHA-256 of its header and checksums, in hexadecimal. A name, and no protection against an attacker.
  char hash[CLIPTEXT_TEXT_BYTES];
  // The model that it was made from.
  char source[CLIPTEXT_TEXT_BYTES];
  // The program that made it.
  char producer[CLIPTEXT_TEXT_BYTES];
  // How its weights are packed: which kind of CPU it is for.
  char packing[16];
} cliptext_plan_info;

// Does one task: `number` of a job, as `worker`.
typedef void (*cliptext_task)(const void *argument, size_t worker, size_t number);

// A team of the caller's own that shares the steps of a pass: the cores of an RTOS, or the thread pool that a program has anyway.
typedef struct {
  // Given to `run`.
  void *context;
  // How many workers there are, 1 to CLIPTEXT_MAX_WORKERS: they are numbered from 0.
  size_t workers;
  // Calls `task(argument, worker, number)` exactly once for each `number` below `tasks`, in any order, by any worker, and returns
  // when all are done and what they wrote is visible to the caller. Calls that overlap in time have different workers, all below
  // `workers`. It is called about ten times for each layer, by the thread that encodes.
  void (*run)(void *context, size_t tasks, cliptext_task task, const void *argument);
} cliptext_team;

// How an encoder works. All zero is what a null pointer to it stands for: the fastest kernel, on the calling thread.
typedef struct {
  // The kernel's name, a C string: `scalar`, `avx2`, `avxvnni`, `avx512vnni`, `amx`, `neon`, `dotprod`, `i8mm`; null for the fastest that this CPU
  // has for the plan. All give the same bytes.
  const char *kernel;
  // Threads that share each pass, the calling one among them: 0 and 1 start none, CLIPTEXT_ALL_CORES starts as many as the machine
  // has use for. Only `cliptext_encoder_new` starts threads; they end with the encoder.
  size_t threads;
  // A team of the caller's instead of threads; null for none. What it points to is copied.
  const cliptext_team *team;
  // CLIPTEXT_ASSUME_KERNEL or 0.
  uint32_t flags;
} cliptext_options;

// What an encoder has chosen.
typedef struct {
  // Texts in the whole context that its arena has room for in one pass; of short texts without padding it may be more.
  size_t sequences;
  // Workers that share a pass, the calling thread among them.
  size_t workers;
  // The kernel's name.
  char kernel[16];
} cliptext_encoder_info;

// What a text became: a view of the encoder's arena, good until the next call that encodes with the same encoder, and no longer
// than the arena is there.
typedef struct {
  // The hidden states, `[tokens, width]` row by row.
  const float *hidden;
  // The pooled output, `[pooled_columns]`; null where the plan has none.
  const float *pooled;
  // The token ids, `[tokens]`, one for each row of the hidden states, as the (first) text tower takes them.
  const uint32_t *ids;
  // Rows of the hidden states: the context, or the text's own tokens.
  size_t tokens;
  // Rows at the front that were kept from the call before, whose text began alike, and not computed again; 0 unless the plan
  // keeps rows.
  size_t kept;
  // Columns of the hidden states.
  size_t width;
  // Columns of the pooled output; 0 where the plan has none.
  size_t pooled_columns;
  // Whether the text had more tokens than the context, and was cut.
  bool truncated;
} cliptext_embedding;

// A text: UTF-8 of `length` bytes, or a C string where that is CLIPTEXT_CSTR.
typedef struct {
  // Its first byte.
  const char *text;
  // Its bytes.
  size_t length;
} cliptext_text;

// Arrays that embeddings are copied to. Each may be left out: null, with no values.
typedef struct {
  // For the hidden states.
  float *hidden;
  // Values that `hidden` has place for.
  size_t hidden_values;
  // For the pooled outputs.
  float *pooled;
  // Values that `pooled` has place for.
  size_t pooled_values;
} cliptext_arrays;

// How a prompt is read. All zero is what a null pointer to it stands for: text is text, in one chunk.
typedef struct {
  // Whose weights the text has, a C string: `none`, `a1111` or `comfy`, as `--weights` of cliptext-run has it; null for `none`.
  const char *weights;
  // Chunks that it takes: 0 for one, which is cut as the tokenizer does it; CLIPTEXT_AUTO_CHUNKS for as many as it needs; a
  // number for so many, of which empty ones fill up.
  size_t chunks;
  // A chunk that is full ends behind its last comma instead, if no more than so many tokens come behind; 0 for never. 20 is
  // AUTOMATIC1111's. At most 255.
  size_t comma;
} cliptext_prompt_options;

// What became of a prompt.
typedef struct {
  // Its chunks: with them its hidden states are `[chunks * context, width]`.
  size_t chunks;
  // The most chunks that a prompt of its plan has.
  size_t max_chunks;
  // The bytes of the text that fell off because there was no room: from `dropped_start` to before `dropped_end`; both are 0
  // where nothing did.
  size_t dropped_start;
  // See `dropped_start`.
  size_t dropped_end;
  // Whether any weight is not 1.
  bool weighted;
} cliptext_prompt_info;

// What a pack says of itself.
typedef struct {
  // Its entries, numbered from 0 in the order of the bytes of their names.
  size_t entries;
  // Columns of the hidden states.
  size_t width;
  // Columns of the pooled outputs; 0 where there are none.
  size_t pooled_columns;
  // Whether the values are stored in half precision.
  bool half;
  // The hash of the plan that encoded the prompts, as `cliptext_plan_info` has it.
  char plan_hash[CLIPTEXT_TEXT_BYTES];
  // The model that the plan was made from.
  char source[CLIPTEXT_TEXT_BYTES];
  // The program that made the pack.
  char producer[CLIPTEXT_TEXT_BYTES];
} cliptext_pack_info;

// An embedding of a pack, and what it is of: pointers into the pack's bytes, good for as long as these are. Texts are UTF-8 without a
// zero behind them.
typedef struct {
  // Its name, and the name's bytes.
  const char *name;
  // See `name`.
  size_t name_length;
  // The text that was encoded, and its bytes.
  const char *prompt;
  // See `prompt`.
  size_t prompt_length;
  // How it was encoded, in the words of the program that made the pack, and their bytes.
  const char *options;
  // See `options`.
  size_t options_length;
  // The bytes of the prompt that were left out because they did not fit: from `dropped_start` to before `dropped_end`; both are 0
  // where nothing was.
  size_t dropped_start;
  // See `dropped_start`.
  size_t dropped_end;
  // Rows of the hidden states.
  size_t tokens;
  // The token ids, `[tokens]`.
  const uint32_t *ids;
  // The hidden states where they stand, `[tokens, width]`: null in a pack of half precision, which `cliptext_pack_copy` converts.
  const float *hidden;
  // The pooled output where it stands, `[pooled_columns]`: null where there is none, and in a pack of half precision.
  const float *pooled;
  // The hidden states of a pack of half precision: the bits of IEEE binary16. Else null.
  const uint16_t *hidden_half;
  // The pooled output of a pack of half precision. Else null.
  const uint16_t *pooled_half;
} cliptext_pack_entry;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// What a status means, in one sentence: a C string that is always there. For a number that is no status it says so.
const char *cliptext_error_text(int32_t status);

// What was wrong with the calling thread's last call that failed, with names, places and numbers: a C string, empty where none
// has failed. The pointer stays good while the thread lives; the next call that fails changes the text. At most 511 bytes.
//
// In the library without an operating system all tasks share one text.
const char *cliptext_last_error(void);

// The library's version, such as `0.1.0`: a C string that is always there.
const char *cliptext_version(void);

// Bytes of memory that a plan object takes: at most `CLIPTEXT_PLAN_BYTES`.
size_t cliptext_plan_size(void);

// Checks the plan of `length` bytes at `bytes` and makes a plan object of it in `memory`.
//
// Nothing is copied or allocated: `bytes`, from a multiple of 64 on, stays as it is and where it is for as long as the object and
// the encoders made from it are used. `memory`, aligned as that of malloc is, has `cliptext_plan_size()` bytes or more, and holds the
// object from then on: there is nothing to close. On an error `*plan` is left alone.
//
// Errors: CLIPTEXT_MISALIGNED, CLIPTEXT_PLAN, CLIPTEXT_VERSION of the bytes; CLIPTEXT_NULL, CLIPTEXT_MISALIGNED, CLIPTEXT_TOO_SMALL,
// CLIPTEXT_ARGUMENT of the arguments.
cliptext_status cliptext_plan_load(const void *bytes,
                                   size_t length,
                                   void *memory,
                                   size_t memory_bytes,
                                   cliptext_plan **plan);

// Writes what the plan says of itself to `info`.
//
// Errors: CLIPTEXT_NULL, CLIPTEXT_MISALIGNED, CLIPTEXT_HANDLE.
cliptext_status cliptext_plan_describe(const cliptext_plan *plan, cliptext_plan_info *info);

// Writes the bytes of arena that encoding `sequences` texts in one pass takes to `*bytes`, each in the whole context: 1 for a text, 2 for
// a prompt and its negative.
//
// Errors: CLIPTEXT_NULL, CLIPTEXT_MISALIGNED, CLIPTEXT_HANDLE; CLIPTEXT_ARGUMENT unless `sequences` is 1 to the plan's `max_sequences`.
cliptext_status cliptext_arena_bytes(const cliptext_plan *plan,
                                     size_t sequences,
                                     size_t *bytes);

// Writes the bytes of arena that a pass over `sequences` texts takes which have `rows` rows together, to `*bytes`: of short texts without
// their padding (CLIPTEXT_UNPADDED) so many as fill a context take little more than one that is padded.
//
// Errors: those of `cliptext_arena_bytes`; CLIPTEXT_ARGUMENT also where there are fewer rows than texts, or more than they can have.
cliptext_status cliptext_pass_bytes(const cliptext_plan *plan,
                                    size_t sequences,
                                    size_t rows,
                                    size_t *bytes);

// Opens the plan file at `path`, a C string in the system's own encoding (UTF-8 on Windows), and checks it. `flags` is CLIPTEXT_READ or
// CLIPTEXT_MAP: there is no default, since a mapped file must be left alone. A pipe and a device can only be read.
//
// The plan is closed with `cliptext_close`. On an error `*plan` is left alone.
//
// Errors: CLIPTEXT_FILE where the file is missing, a folder, or can't be read or mapped; CLIPTEXT_PLAN, CLIPTEXT_VERSION of what is in it;
// CLIPTEXT_MEMORY; CLIPTEXT_NULL, CLIPTEXT_MISALIGNED, CLIPTEXT_UTF8, CLIPTEXT_ARGUMENT of the arguments.
//
// Not in the library without an operating system.
cliptext_status cliptext_open(const char *path,
                              uint32_t flags,
                              cliptext_plan **plan);

// Closes a plan that `cliptext_open` gave; null is nothing to close. Encoders that `cliptext_encoder_new` made of it go on; those in the
// caller's memory must not be used any more, and no other thread may be using the plan.
//
// Errors: CLIPTEXT_HANDLE where `plan` leads to no plan, CLIPTEXT_ARGUMENT where it was not opened but loaded from memory.
//
// Not in the library without an operating system.
cliptext_status cliptext_close(cliptext_plan *plan);

// Writes the token ids of a text to `ids`, as the plan's (first) text tower takes them: the whole context, or without the padding
// where `flags` is CLIPTEXT_UNPADDED.
//
// `length` is the text's bytes, or CLIPTEXT_CSTR for a C string. `room` is how many ids `ids` has place for: the context always
// does, and where both are 0 and null the ids are only counted. `*count` is how many there are, also where the place is too small. `truncated`
// may be null; else `*truncated` is whether the text had more tokens than the context.
//
// Errors: CLIPTEXT_TOO_SMALL, after which nothing is in `ids`; CLIPTEXT_UTF8, CLIPTEXT_NULL, CLIPTEXT_MISALIGNED, CLIPTEXT_ARGUMENT,
// CLIPTEXT_HANDLE.
cliptext_status cliptext_tokenize(const cliptext_plan *plan,
                                  const char *text,
                                  size_t length,
                                  uint32_t flags,
                                  uint32_t *ids,
                                  size_t room,
                                  size_t *count,
                                  bool *truncated);

// Bytes of memory that an encoder object takes: at most `CLIPTEXT_ENCODER_BYTES`.
size_t cliptext_encoder_size(void);

// Makes an encoder in the caller's memory, without allocating.
//
// `memory` holds the object: `cliptext_encoder_size()` bytes or more, aligned as those of malloc are. `arena` has as many bytes as
// `cliptext_arena_bytes` says for the texts in one pass, from a multiple of 64 on; it is zeroed now. `options` may be null. Both, and the plan's
// bytes, stay where they are for as long as the encoder is used; the plan object is needed no more. There is nothing to
// free, but `cliptext_encoder_free` ends such an encoder too. On an error `*encoder` is left alone.
//
// Errors: CLIPTEXT_PACKING where the plan is for another kind of CPU; CLIPTEXT_KERNEL; CLIPTEXT_HANDLE; CLIPTEXT_NULL, CLIPTEXT_MISALIGNED,
// CLIPTEXT_TOO_SMALL of the memory; CLIPTEXT_ARGUMENT where pieces of memory overlap, and where `options` asks for threads.
cliptext_status cliptext_encoder_init(const cliptext_plan *plan,
                                      void *memory,
                                      size_t memory_bytes,
                                      void *arena,
                                      size_t arena_bytes,
                                      const cliptext_options *options,
                                      cliptext_encoder **encoder);

// Makes an encoder on the heap, with an arena for passes of up to `sequences` texts in the whole context, and the threads that `options` asks for; `options` may be
// null. It is freed with `cliptext_encoder_free`. On an error `*encoder` is left alone.
//
// An opened plan may be closed before its encoders; the bytes of one that was loaded from memory must outlast them.
//
// Errors: CLIPTEXT_PACKING where the plan is for another kind of CPU; CLIPTEXT_KERNEL; CLIPTEXT_MEMORY; CLIPTEXT_THREAD; CLIPTEXT_HANDLE, CLIPTEXT_NULL,
// CLIPTEXT_MISALIGNED; CLIPTEXT_ARGUMENT unless `sequences` is 1 to the plan's `max_sequences`.
//
// Not in the library without an operating system.
cliptext_status cliptext_encoder_new(const cliptext_plan *plan,
                                     size_t sequences,
                                     const cliptext_options *options,
                                     cliptext_encoder **encoder);

// Ends an encoder, its threads and what it has on the heap; null is nothing to end. Memory that the caller gave stays the caller's.
//
// Errors: CLIPTEXT_HANDLE where `encoder` leads to no encoder, CLIPTEXT_BUSY where another thread is encoding with it: then it stays.
cliptext_status cliptext_encoder_free(cliptext_encoder *encoder);

// Writes what the encoder has chosen to `info`.
//
// Errors: CLIPTEXT_NULL, CLIPTEXT_MISALIGNED, CLIPTEXT_HANDLE, CLIPTEXT_BUSY.
cliptext_status cliptext_encoder_describe(cliptext_encoder *encoder, cliptext_encoder_info *info);

// Encodes a text: the whole context, filled up as the model's tokenizer does, or only the text's own rows where `flags` is
// CLIPTEXT_UNPADDED.
//
// `length` is the text's bytes, or CLIPTEXT_CSTR for a C string. A text of more tokens than the context is cut, which `truncated` of the
// embedding tells. On an error `*embedding` is left alone.
//
// Errors: CLIPTEXT_UTF8, CLIPTEXT_NULL, CLIPTEXT_MISALIGNED, CLIPTEXT_ARGUMENT, CLIPTEXT_HANDLE, CLIPTEXT_BUSY, CLIPTEXT_TEAM.
cliptext_status cliptext_encode(cliptext_encoder *encoder,
                                const char *text,
                                size_t length,
                                uint32_t flags,
                                cliptext_embedding *embedding);

// Encodes two texts, mostly a prompt and its negative, in one pass, which reads the weights once. `embeddings` has place for two, in the
// order of the texts; they equal those of `cliptext_encode` bit for bit. The rest is as there.
//
// Errors: those of `cliptext_encode`; CLIPTEXT_TOO_SMALL where the arena has no room for two.
cliptext_status cliptext_encode_pair(cliptext_encoder *encoder,
                                     const char *first,
                                     size_t first_length,
                                     const char *second,
                                     size_t second_length,
                                     uint32_t flags,
                                     cliptext_embedding *embeddings);

// Encodes `count` token ids from elsewhere, start and end token included: a row for each, in the order given. The row of the first end
// token is pooled; without one, the last. On an error `*embedding` is left alone.
//
// Errors: CLIPTEXT_IDS unless there are 1 to the plan's `context` ids, all below its `token_rows`; CLIPTEXT_NULL, CLIPTEXT_MISALIGNED,
// CLIPTEXT_ARGUMENT, CLIPTEXT_HANDLE, CLIPTEXT_BUSY, CLIPTEXT_TEAM.
cliptext_status cliptext_encode_ids(cliptext_encoder *encoder,
                                    const uint32_t *ids,
                                    size_t count,
                                    cliptext_embedding *embedding);

// Encodes any number of texts, as many in a pass as the arena has room for, and copies what comes out to the caller's arrays, where
// later calls leave it alone: the hidden states, `[count, context, width]`, and the pooled outputs, `[count, pooled_columns]`. With
// CLIPTEXT_UNPADDED the rows of the texts' own tokens stand one text behind the other: as many as `cliptext_tokenize` counts. Of each text the values are those
// of `cliptext_encode`, bit for bit.
//
// `truncated` may be null; else `*truncated` is how many texts had more tokens than the context and were cut. The arrays are written as the passes
// are done: after CLIPTEXT_TEAM they mean nothing; after any other error they are as they were.
//
// Errors: CLIPTEXT_TOO_SMALL where an array is; CLIPTEXT_ARGUMENT where there are no texts or no arrays, where pooled outputs are asked of a plan
// without, and where an array overlaps the arena or the other one; CLIPTEXT_UTF8, CLIPTEXT_NULL, CLIPTEXT_MISALIGNED, CLIPTEXT_HANDLE,
// CLIPTEXT_BUSY, CLIPTEXT_TEAM.
cliptext_status cliptext_encode_batch(cliptext_encoder *encoder,
                                      const cliptext_text *texts,
                                      size_t count,
                                      uint32_t flags,
                                      const cliptext_arrays *arrays,
                                      size_t *truncated);

// Bytes of memory that a prompt object takes: at most `CLIPTEXT_PROMPT_BYTES`.
size_t cliptext_prompt_size(void);

// Reads a prompt with the plan's tokenizer into an object in `memory`, without allocating.
//
// `memory`, aligned as that of malloc is, has `cliptext_prompt_size()` bytes or more; a prompt that was there is no more. `length` is the
// text's bytes, or CLIPTEXT_CSTR for a C string; the text is needed no more. `options` may be null. What has no room falls off, which
// `cliptext_prompt_describe` tells. On an error `*prompt` is left alone.
//
// Errors: CLIPTEXT_PROMPT where the prompt takes more chunks than there can be, or an option is unknown; CLIPTEXT_UTF8, CLIPTEXT_NULL,
// CLIPTEXT_MISALIGNED, CLIPTEXT_TOO_SMALL, CLIPTEXT_ARGUMENT, CLIPTEXT_HANDLE.
cliptext_status cliptext_prompt_read(const cliptext_plan *plan,
                                     const char *text,
                                     size_t length,
                                     const cliptext_prompt_options *options,
                                     void *memory,
                                     size_t memory_bytes,
                                     cliptext_prompt **prompt);

// Adds empty chunks to a prompt up to so many: to a negative prompt, which has as many as the prompt that it goes with.
//
// Errors: CLIPTEXT_PROMPT where they are more than there can be; CLIPTEXT_NULL, CLIPTEXT_MISALIGNED, CLIPTEXT_HANDLE, CLIPTEXT_BUSY.
cliptext_status cliptext_prompt_fill(cliptext_prompt *prompt,
                                     size_t chunks);

// Writes what became of the prompt to `info`.
//
// Errors: CLIPTEXT_NULL, CLIPTEXT_MISALIGNED, CLIPTEXT_HANDLE, CLIPTEXT_BUSY.
cliptext_status cliptext_prompt_describe(cliptext_prompt *prompt, cliptext_prompt_info *info);

// Encodes a prompt chunk by chunk, as many in a pass as the arena has room for, and copies what comes out to the caller's arrays: the hidden
// states, `[chunks * context, width]`, with what the weights make of them, and the first chunk's pooled output, `[pooled_columns]`, which no
// weight changes.
//
// `empty` are the hidden states of the empty prompt, `[context, width]`, for a prompt with ComfyUI's weights, if the caller has kept them; null with
// `empty_values` 0 where not: they are computed then where they are needed.
//
// Errors: CLIPTEXT_TOO_SMALL where an array is; CLIPTEXT_ARGUMENT where `empty` has another length, where the prompt was read with a plan of another
// context, where there is no array for the hidden states, where a pooled output is asked of a plan without, and where arrays overlap;
// CLIPTEXT_NULL, CLIPTEXT_MISALIGNED, CLIPTEXT_HANDLE, CLIPTEXT_BUSY, CLIPTEXT_TEAM.
cliptext_status cliptext_encode_prompt(cliptext_encoder *encoder,
                                       cliptext_prompt *prompt,
                                       const float *empty,
                                       size_t empty_values,
                                       const cliptext_arrays *arrays);

// Bytes of memory that a pack object takes: at most `CLIPTEXT_PACK_BYTES`.
size_t cliptext_pack_size(void);

// Checks the prompt pack of `length` bytes at `bytes` and makes a pack object of it in `memory`, as `cliptext_plan_load` does with a plan:
// nothing is copied or allocated, `bytes` starts at a multiple of 64 and stays as it is and where it is for as long as the object and its entries are used.
// `memory`, aligned as that of malloc is, has `cliptext_pack_size()` bytes or more. On an error `*pack` is left alone.
//
// Errors: CLIPTEXT_MISALIGNED, CLIPTEXT_PACK, CLIPTEXT_VERSION of the bytes; CLIPTEXT_NULL, CLIPTEXT_MISALIGNED, CLIPTEXT_TOO_SMALL,
// CLIPTEXT_ARGUMENT of the arguments.
cliptext_status cliptext_pack_load(const void *bytes,
                                   size_t length,
                                   void *memory,
                                   size_t memory_bytes,
                                   cliptext_pack **pack);

// Writes what the pack says of itself to `info`.
//
// Errors: CLIPTEXT_NULL, CLIPTEXT_MISALIGNED, CLIPTEXT_HANDLE.
cliptext_status cliptext_pack_describe(const cliptext_pack *pack, cliptext_pack_info *info);

// Looks up a name, of `length` bytes or a C string (CLIPTEXT_CSTR), and writes the number of its entry to `*index`.
//
// Errors: CLIPTEXT_ENTRY where the pack has no such name; CLIPTEXT_UTF8, CLIPTEXT_NULL, CLIPTEXT_MISALIGNED, CLIPTEXT_ARGUMENT,
// CLIPTEXT_HANDLE.
cliptext_status cliptext_pack_find(const cliptext_pack *pack,
                                   const char *name,
                                   size_t length,
                                   size_t *index);

// Writes entry `index` to `entry`.
//
// Errors: CLIPTEXT_ENTRY where there is none; CLIPTEXT_NULL, CLIPTEXT_MISALIGNED, CLIPTEXT_HANDLE.
cliptext_status cliptext_pack_entry_at(const cliptext_pack *pack, size_t index, cliptext_pack_entry *entry);

// Copies entry `index` to the caller's arrays in single precision, whatever the pack has: the hidden states, `[tokens, width]`, and the
// pooled output, `[pooled_columns]`.
//
// Errors: CLIPTEXT_ENTRY where there is none; CLIPTEXT_TOO_SMALL where an array is; CLIPTEXT_ARGUMENT where there are no arrays, where a pooled output is
// asked of a pack without, and where arrays overlap each other or the pack; CLIPTEXT_NULL, CLIPTEXT_MISALIGNED, CLIPTEXT_HANDLE.
cliptext_status cliptext_pack_copy(const cliptext_pack *pack,
                                   size_t index,
                                   const cliptext_arrays *arrays);

// Opens the prompt pack at `path` and checks it, as `cliptext_open` does with a plan; `flags` is CLIPTEXT_READ or CLIPTEXT_MAP. It is closed with
// `cliptext_pack_close`. On an error `*pack` is left alone.
//
// Errors: CLIPTEXT_PACK, CLIPTEXT_VERSION of what is in the file; else those of `cliptext_open`.
//
// Not in the library without an operating system.
cliptext_status cliptext_pack_open(const char *path,
                                   uint32_t flags,
                                   cliptext_pack **pack);

// Closes a pack that `cliptext_pack_open` gave; null is nothing to close. Its entries must not be used any more, and no other thread may be
// using the pack.
//
// Errors: CLIPTEXT_HANDLE where `pack` leads to no pack, CLIPTEXT_ARGUMENT where it was not opened but loaded from memory.
//
// Not in the library without an operating system.
cliptext_status cliptext_pack_close(cliptext_pack *pack);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* CLIPTEXT_H */
