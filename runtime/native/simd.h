// Which instruction set the vectorised loops run on. A kernel's loop is written once, always inlined, and instantiated
// for the baseline and, on x86-64, for AVX2 with FMA; the choice is made at run time and changes no bit of a result.
#pragma once

#if defined(__x86_64__) && defined(__GNUC__)
#define DOSSR_X86_DISPATCH 1
#define DOSSR_AVX2 __attribute__((target("avx2,fma")))
#else
#define DOSSR_X86_DISPATCH 0
#endif

#if defined(__GNUC__)
#define DOSSR_INLINE inline __attribute__((always_inline))
#else
#define DOSSR_INLINE inline
#endif

namespace dossr {

// True when the processor has AVX2 and FMA and `set_simd(false)` was not called.
bool use_avx2() noexcept;

// Allows (default) or forbids the AVX2 loops, for tests that hold both paths together. Returns whether they now run.
bool set_simd(bool allowed) noexcept;

}  // namespace dossr
