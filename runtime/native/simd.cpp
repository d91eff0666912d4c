#include "simd.h"

#include <atomic>

namespace dossr {
namespace {

bool detect() noexcept {
#if DOSSR_X86_DISPATCH
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
    return false;
#endif
}

const bool supported = detect();
std::atomic<bool> enabled{true};

}  // namespace

bool use_avx2() noexcept { return supported && enabled.load(std::memory_order_relaxed); }

bool set_simd(bool allowed) noexcept {
    enabled.store(allowed, std::memory_order_relaxed);
    return use_avx2();
}

}  // namespace dossr
