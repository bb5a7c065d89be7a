// One sample at a time through RTNeural's GRU and head: sizes known when it is compiled, or, if
// HIDDEN is 0, when the model is read.
// Usage: stream_rtneural MODEL.json SAMPLES.f32 REPEATS; prints nanoseconds a sample, a line each
// repeat, then the last output.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <vector>

#include <RTNeural/RTNeural.h>

int main(int, char** arguments) {
  std::ifstream json(arguments[1]);
#if HIDDEN
  RTNeural::ModelT<float, 1, 1, RTNeural::GRULayerT<float, 1, HIDDEN>,
                   RTNeural::DenseT<float, HIDDEN, 1>>
      model;
  model.parseJson(json);
#else
  const auto read = RTNeural::json_parser::parseJson<float>(json);
  auto& model = *read;
#endif
  std::ifstream file(arguments[2], std::ios::binary | std::ios::ate);
  std::vector<float> x(static_cast<std::size_t>(file.tellg()) / sizeof(float));
  file.seekg(0);
  file.read(reinterpret_cast<char*>(x.data()), static_cast<long>(x.size() * sizeof(float)));
  float y = 0;
  for (int repeat = std::atoi(arguments[3]); repeat > 0; --repeat) {
    model.reset();
    const auto begin = std::chrono::steady_clock::now();
    for (const float sample : x) y = model.forward(&sample);
    const std::chrono::duration<double, std::nano> time = std::chrono::steady_clock::now() - begin;
    std::printf("%.9g\n", time.count() / double(x.size()));
  }
  std::printf("%.9g\n", double(y));
}
