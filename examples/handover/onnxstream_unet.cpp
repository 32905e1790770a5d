// Runs a UNet in OnnxStream on raw embeddings that cliptext-run wrote, f32 [2, 77, width], the negative first.
//
//   cliptext-run encode PLAN "a running dog" --negative "blurry" --order negative-first -o both.f32
//   onnxstream_unet UNET_FOLDER both.f32          # UNET_FOLDER: unet-1.onnx by OnnxStream's onnx2txt
//
// In OnnxStream's own sd.cpp it is `prompt_solve` that such a file replaces: it returns 77 rows of 768 values.
#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "onnxstream.h"

using namespace onnxstream;

static std::vector<float> unet(const std::string& folder, const std::vector<float>& latents, const float* states, size_t width)
{
    Model model;
    model.read_file((folder + "/model.txt").c_str());
    Tensor timestep, sample, cond;
    timestep.m_name = "timestep";
    timestep.m_shape = {1};
    timestep.set_vector(tensor_vector<int64_t>(1, 500));
    model.push_tensor(std::move(timestep));
    sample.m_name = "sample";
    sample.m_shape = {1, 4, 16, 16};
    sample.set_vector(tensor_vector<float>(latents.begin(), latents.end()));
    model.push_tensor(std::move(sample));
    cond.m_name = "encoder_5F_hidden_5F_states";
    cond.m_shape = {1, 77, width};
    cond.set_vector(tensor_vector<float>(states, states + 77 * width));
    model.push_tensor(std::move(cond));
    model.run();
    auto& out = model.m_data.back().get_vector<float>();
    return {out.begin(), out.end()};
}

int main(int argc, char** argv)
{
    if (argc != 3) return 2;
    std::ifstream file(argv[2], std::ios::binary);
    std::vector<char> bytes((std::istreambuf_iterator<char>(file)), {});
    const float* states = reinterpret_cast<const float*>(bytes.data());
    size_t width = bytes.size() / (2 * 77 * sizeof(float));
    std::vector<float> latents(4 * 16 * 16, 0.5f);
    auto uncond = unet(argv[1], latents, states, width), cond = unet(argv[1], latents, states + 77 * width, width);
    std::printf("predicted noise");
    for (int i = 0; i < 4; ++i) std::printf(" %f", uncond[i] + 7.5f * (cond[i] - uncond[i]));
    std::printf("\n");
}
