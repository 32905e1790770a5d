// A prompt and its negative prompt to a UNet in ONNX Runtime: one step of classifier-free guidance.
//
//     make -C examples/cpp ORT_INCLUDE=…/include ORT_LIB=…/lib
//     unet PLAN UNET.onnx PROMPT NEGATIVE OUT.f32
//
// The UNet has the inputs of Stable Diffusion's exports (sample [2, 4, h, w], timestep, encoder_hidden_states [2, 77, width]) and is fed
// the negative prompt first, as diffusers does. OUT.f32 is uncond + 7.5 (cond - uncond), [4, h, w]. The sample here is no noise but a
// sequence that check.py makes too.
#include <cliptext.h>
#include <onnxruntime_c_api.h>

#include <cstdint>
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

// cliptext's objects, ended when they go out of scope.
using Plan = std::unique_ptr<cliptext_plan, decltype(&cliptext_close)>;
using Encoder = std::unique_ptr<cliptext_encoder, decltype(&cliptext_encoder_free)>;

void done(cliptext_status status) {
    if (status != CLIPTEXT_OK)
        throw std::runtime_error(cliptext_last_error());
}

Plan open_plan(const char *path) {
    cliptext_plan *plan = nullptr;
    done(cliptext_open(path, CLIPTEXT_READ, &plan));
    return {plan, cliptext_close};
}

Encoder make_encoder(const Plan &plan) {
    cliptext_encoder *encoder = nullptr;
    cliptext_options options{};
    options.threads = CLIPTEXT_ALL_CORES;
    done(cliptext_encoder_new(plan.get(), 2, &options, &encoder));
    return {encoder, cliptext_encoder_free};
}

// [texts, 77, width], in memory of its own.
std::vector<float> encode(const Plan &plan, const std::vector<std::string> &texts, std::vector<int64_t> &shape) {
    cliptext_plan_info info;
    done(cliptext_plan_describe(plan.get(), &info));
    shape = {int64_t(texts.size()), int64_t(info.context), int64_t(info.width)};
    std::vector<float> states(texts.size() * info.context * info.width);
    std::vector<cliptext_text> views;
    for (const std::string &text : texts)
        views.push_back({text.data(), text.size()});
    cliptext_arrays arrays{};
    arrays.hidden = states.data();
    arrays.hidden_values = states.size();
    size_t truncated = 0;
    done(cliptext_encode_batch(make_encoder(plan).get(), views.data(), views.size(), 0, &arrays, &truncated));
    if (truncated > 0)
        std::fprintf(stderr, "unet: %zu of the prompts have more than %zu tokens and were cut\n", truncated, info.context);
    return states;
}

const OrtApi &ort() {
    static const OrtApi *const api = OrtGetApiBase()->GetApi(ORT_API_VERSION);
    if (api == nullptr)
        throw std::runtime_error(std::string("ONNX Runtime ") + OrtGetApiBase()->GetVersionString() +
                                 " is older than the header that this program was built with");
    return *api;
}

void done(OrtStatus *status) {
    if (status == nullptr)
        return;
    std::string message = ort().GetErrorMessage(status);
    ort().ReleaseStatus(status);
    throw std::runtime_error(message);
}

// ONNX Runtime's objects likewise.
template <class T> struct Release {
    void (*release)(T *);
    void operator()(T *object) const { release(object); }
};
template <class T> using Owned = std::unique_ptr<T, Release<T>>;
template <class T> Owned<T> owned(T *object, void (*release)(T *)) { return {object, {release}}; }

template <class T>
Owned<OrtValue> tensor(std::vector<T> &values, const std::vector<int64_t> &shape, ONNXTensorElementDataType type) {
    OrtMemoryInfo *memory = nullptr;
    done(ort().CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory));
    Owned<OrtMemoryInfo> kept = owned(memory, ort().ReleaseMemoryInfo);
    OrtValue *value = nullptr;
    done(ort().CreateTensorWithDataAsOrtValue(memory, values.data(), values.size() * sizeof(T), shape.data(),
                                              shape.size(), type, &value));
    return owned(value, ort().ReleaseValue);
}

// The type and shape of input `index`; -1 where a dimension is open.
std::pair<ONNXTensorElementDataType, std::vector<int64_t>> input(const OrtSession *session, size_t index) {
    OrtTypeInfo *type = nullptr;
    done(ort().SessionGetInputTypeInfo(session, index, &type));
    Owned<OrtTypeInfo> kept = owned(type, ort().ReleaseTypeInfo);
    const OrtTensorTypeAndShapeInfo *tensor = nullptr;
    done(ort().CastTypeInfoToTensorInfo(type, &tensor));
    ONNXTensorElementDataType element;
    size_t dimensions = 0;
    done(ort().GetTensorElementType(tensor, &element));
    done(ort().GetDimensionsCount(tensor, &dimensions));
    std::vector<int64_t> shape(dimensions);
    done(ort().GetDimensions(tensor, shape.data(), dimensions));
    return {element, shape};
}

int run(char **argv) {
    Plan plan = open_plan(argv[1]);
    std::vector<int64_t> states_shape;
    std::vector<float> states = encode(plan, {argv[4], argv[3]}, states_shape);
    plan.reset(); // The text encoder is needed no more: its memory is the UNet's.

    OrtEnv *env = nullptr;
    OrtSessionOptions *options = nullptr;
    OrtSession *session = nullptr;
    done(ort().CreateEnv(ORT_LOGGING_LEVEL_WARNING, "unet", &env));
    Owned<OrtEnv> kept_env = owned(env, ort().ReleaseEnv);
    done(ort().CreateSessionOptions(&options));
    Owned<OrtSessionOptions> kept_options = owned(options, ort().ReleaseSessionOptions);
    done(ort().CreateSession(env, argv[2], options, &session));
    Owned<OrtSession> kept_session = owned(session, ort().ReleaseSession);

    auto [sample_type, sample_shape] = input(session, 0);
    const int64_t usual[] = {2, 4, 64, 64};
    for (size_t i = 0; i < sample_shape.size() && i < 4; i++)
        sample_shape[i] = sample_shape[i] > 0 ? sample_shape[i] : usual[i];
    if (sample_shape.size() != 4 || sample_shape[0] != 2)
        throw std::runtime_error(std::string(argv[2]) + ": its sample is not [2, channels, height, width]");
    size_t half = size_t(sample_shape[1] * sample_shape[2] * sample_shape[3]);
    std::vector<float> sample(2 * half);
    for (size_t i = 0; i < sample.size(); i++) // the same latent for both
        sample[i] = float(uint32_t(i % half) * 2654435761u) / 2147483648.0f - 1.0f;

    std::vector<float> step_f32{500.0f};
    std::vector<int64_t> step_i64{500};
    auto [step_type, step_shape] = input(session, 1);
    for (int64_t &dimension : step_shape)
        dimension = 1;
    bool is_i64 = step_type == ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;
    Owned<OrtValue> inputs[] = {
        tensor(sample, sample_shape, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT),
        is_i64 ? tensor(step_i64, step_shape, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64)
               : tensor(step_f32, step_shape, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT),
        tensor(states, states_shape, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT),
    };
    const char *const names[] = {"sample", "timestep", "encoder_hidden_states"};
    const char *const out_names[] = {"out_sample"};
    const OrtValue *values[] = {inputs[0].get(), inputs[1].get(), inputs[2].get()};
    OrtValue *result = nullptr;
    done(ort().Run(session, nullptr, names, values, 3, out_names, 1, &result));
    Owned<OrtValue> kept_result = owned(result, ort().ReleaseValue);
    void *data = nullptr;
    done(ort().GetTensorMutableData(result, &data));
    const float *uncond = static_cast<const float *>(data), *cond = uncond + half;
    std::vector<float> guided(half);
    for (size_t i = 0; i < half; i++)
        guided[i] = uncond[i] + 7.5f * (cond[i] - uncond[i]);

    std::FILE *out = std::fopen(argv[5], "wb");
    bool good = out != nullptr && std::fwrite(guided.data(), sizeof(float), half, out) == half;
    if (out != nullptr && std::fclose(out) != 0)
        good = false;
    if (!good)
        throw std::runtime_error(std::string(argv[5]) + ": can't be written");
    std::printf("%s: [%lld, %lld, %lld] by ONNX Runtime %s\n", argv[5], (long long)sample_shape[1],
                (long long)sample_shape[2], (long long)sample_shape[3], OrtGetApiBase()->GetVersionString());
    return 0;
}

} // namespace

int main(int argc, char **argv) {
    if (argc != 6) {
        std::fprintf(stderr, "usage: unet PLAN UNET.onnx PROMPT NEGATIVE OUT.f32\n");
        return 2;
    }
    try {
        return run(argv);
    } catch (const std::exception &error) {
        std::fprintf(stderr, "unet: %s\n", error.what());
        return 1;
    }
}
