// A stand-in for libcuda.so.1 that writes down what it is asked for. It has two devices; what belongs
// to the context of one is refused in the other's.
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

int failing(const char* name) {
  const char* wanted = std::getenv("TIDEGATE_TEST_FAIL");
  return wanted && !std::strcmp(wanted, name) ? 701 : 0;
}

int note(const char* name, const char* text) {
  if (std::FILE* log = std::fopen(std::getenv("TIDEGATE_TEST_LOG"), "a")) {
    std::fprintf(log, "%s %s\n", name, text);
    std::fclose(log);
  }
  return failing(name);
}

}  // namespace

extern "C" {

int cuDeviceGet(int* device, int ordinal) {
  *device = ordinal + 100;
  return 0;
}

int cuDeviceGetAttribute(int* value, int attribute, int device) {
  *value = attribute == 97 && (device == 100 || device == 101) ? 166912 : -1;
  return 0;
}

// Each thread begins without a context. Those of the devices are 0x5000 and 0x5001; a module of
// theirs is 0x1000 and 0x1001, and its kernels are 0x2000 and 0x2001.
thread_local char* context = nullptr;

static char* of_context(long base) { return context ? context - 0x5000 + base : nullptr; }

int cuCtxGetCurrent(void** found) {
  *found = context;
  return 0;
}

int cuDevicePrimaryCtxRetain(void** found, int device) {
  *found = reinterpret_cast<char*>(0x5000) + (device - 100);
  return device == 100 || device == 101 ? note("cuDevicePrimaryCtxRetain", "") : 101;
}

int cuCtxSetCurrent(void* wanted) {
  context = static_cast<char*>(wanted);
  return 0;
}

int cuGetErrorString(int code, const char** text) {
  *text = code == 701 ? "too many resources requested for launch" : nullptr;
  return 0;
}

int cuModuleLoadData(void** module, const char* image) {
  if (!context) return 201;
  *module = of_context(0x1000);
  return std::memcmp(image,
                     "\x7f"
                     "ELF",
                     4)
             ? 200
             : note("cuModuleLoadData", "");
}

int cuModuleGetFunction(void** function, void* module, const char* name) {
  *function = of_context(0x2000);
  return module == of_context(0x1000) ? note("cuModuleGetFunction", name) : 400;
}

int cuFuncSetAttribute(void*, int attribute, int value) {
  char text[64];
  std::snprintf(text, sizeof text, "%d %d", attribute, value);
  return note("cuFuncSetAttribute", text);
}

int cuLaunchKernel(void* function, unsigned x, unsigned y, unsigned z, unsigned threads,
                   unsigned threads_y, unsigned threads_z, unsigned shared, void* stream,
                   void** parameters, void** extra) {
  if (!context) return 201;
  if (function != of_context(0x2000)) return 400;
  char text[256];
  std::snprintf(text, sizeof text, "%p %u %u %u %u %u %u %u %p %lld %p", function, x, y, z, threads,
                threads_y, threads_z, shared, stream, *static_cast<long long*>(parameters[0]),
                static_cast<void*>(extra));
  return note("cuLaunchKernel", text);
}
}
