// A longjmp to another stack is what the fortified one takes for an error.
#undef _FORTIFY_SOURCE

#include "execute.h"

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

thread_local uint3 threadIdx, blockIdx;
thread_local dim3 blockDim, gridDim;

namespace cuda_on_host {
namespace {

constexpr std::size_t kStackBytes = 256 * 1024;
constexpr std::size_t kStaticSharedBytes = 48 * 1024;
constexpr std::size_t kMostSharedBytes = 99 * 1024;
constexpr unsigned kMostThreads = 1024;
constexpr unsigned kWarp = 32;
constexpr unsigned char kPoison = 0xA5;

[[noreturn]] void stop(const char* why) {
    std::fprintf(stderr, "cuda_on_host: block (%u, %u, %u): %s\n", blockIdx.x, blockIdx.y, blockIdx.z, why);
    std::abort();
}

enum class State { ready, at_barrier, in_warp, done };

struct Fiber {
    std::unique_ptr<char[]> stack{new char[kStackBytes]};
    jmp_buf resume;
    bool entered = false;
    State state = State::done;
    unsigned mask = 0;         // of the warp operation it waits in
    std::uint64_t value = 0;   // what it handed in
    const void* sanitizer_stack = nullptr;
};

struct Memory {
    std::unique_ptr<unsigned char[]> bytes;
    std::size_t size = 0;
    explicit Memory(std::size_t count) : bytes(new unsigned char[count]), size(count) {
        std::fill_n(bytes.get(), count, kPoison);
    }
};

// What one CPU thread runs: a block, and the stacks of its threads, which stay for the next block.
struct Block {
    const Launch* launch = nullptr;
    std::vector<std::unique_ptr<Fiber>> fibers;
    std::vector<std::uint64_t> exchanged;  // of every warp's last operation
    std::map<const void*, Memory> shared;
    std::unique_ptr<Memory> dynamic;
    Fiber* current = nullptr;
    unsigned current_index = 0;
    jmp_buf back;
    ucontext_t scheduler;

    void run(bool reversed);

private:
    void resume(unsigned index);
    void run_warp(unsigned warp, bool reversed);
    bool release_warp(unsigned warp);
    bool release_barrier();
    unsigned threads() const { return launch->block.x * launch->block.y * launch->block.z; }
};

thread_local Block block;

// Only ASan has to be told that a stack is left for another.
void leaving_to([[maybe_unused]] const void** save, [[maybe_unused]] const void* bottom,
                [[maybe_unused]] std::size_t size) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(const_cast<void**>(save), bottom, size);
#endif
}
thread_local const void* scheduler_stack = nullptr;
thread_local const void* scheduler_bottom = nullptr;
thread_local std::size_t scheduler_size = 0;
void arrived([[maybe_unused]] const void* saved, [[maybe_unused]] bool from_scheduler) {
#if defined(__SANITIZE_ADDRESS__)
    if (from_scheduler) {
        __sanitizer_finish_switch_fiber(const_cast<void*>(saved), &scheduler_bottom, &scheduler_size);
    } else {
        __sanitizer_finish_switch_fiber(const_cast<void*>(saved), nullptr, nullptr);
    }
#endif
}

// Gives the turn back to the scheduler until it comes round again.
void wait(State state) {
    Fiber& fiber = *block.current;
    fiber.state = state;
    leaving_to(&fiber.sanitizer_stack, scheduler_bottom, scheduler_size);
    if (_setjmp(fiber.resume) == 0) _longjmp(block.back, 1);
    arrived(fiber.sanitizer_stack, true);
}

// A fiber's whole life: one thread of one block after another.
void live() {
    arrived(nullptr, true);
    for (;;) {
        block.launch->body();
        wait(State::done);
    }
}

void Block::resume(unsigned index) {
    Fiber& fiber = *fibers[index];
    current = &fiber;
    current_index = index;
    const dim3& shape = launch->block;
    threadIdx = {index % shape.x, index / shape.x % shape.y, index / shape.x / shape.y};
    leaving_to(&scheduler_stack, fiber.stack.get(), kStackBytes);
    if (_setjmp(back) == 0) {
        if (fiber.entered) _longjmp(fiber.resume, 1);
        fiber.entered = true;
        ucontext_t context;
        getcontext(&context);
        context.uc_stack.ss_sp = fiber.stack.get();
        context.uc_stack.ss_size = kStackBytes;
        context.uc_link = nullptr;
        makecontext(&context, live, 0);
        setcontext(&context);
    }
    arrived(scheduler_stack, false);
}

bool Block::release_warp(unsigned warp) {
    const unsigned first = warp * kWarp, count = std::min(kWarp, threads() - first);
    bool released = false;
    for (unsigned lane = 0; lane < count; ++lane) {
        const Fiber& leader = *fibers[first + lane];
        if (leader.state != State::in_warp) continue;
        const unsigned mask = leader.mask;
        if (!(mask >> lane & 1u)) stop("a lane calls a warp operation whose mask leaves it out");
        bool complete = true;
        for (unsigned other = 0; other < kWarp && complete; ++other) {
            if (!(mask >> other & 1u)) continue;
            complete = other < count && fibers[first + other]->state == State::in_warp &&
                       fibers[first + other]->mask == mask;
        }
        if (!complete) continue;
        for (unsigned other = 0; other < kWarp; ++other) {
            const bool named = mask >> other & 1u;
            exchanged[first + other] = named ? fibers[first + other]->value : 0;
            if (named) fibers[first + other]->state = State::ready;
        }
        released = true;
    }
    return released;
}

bool Block::release_barrier() {
    const unsigned count = threads();
    for (unsigned i = 0; i < count; ++i) {
        if (fibers[i]->state != State::at_barrier) return false;
    }
    for (unsigned i = 0; i < count; ++i) fibers[i]->state = State::ready;
    return true;
}

// Until each of its threads is done or at the barrier, so that a warp is as far ahead of the others as it may be.
void Block::run_warp(unsigned warp, bool reversed) {
    const unsigned first = warp * kWarp, count = std::min(kWarp, threads() - first);
    do {
        for (unsigned i = 0; i < count; ++i) {
            const unsigned index = first + (reversed ? count - 1 - i : i);
            if (fibers[index]->state == State::ready) resume(index);
        }
    } while (release_warp(warp));
}

void Block::run(bool reversed) {
    const unsigned count = threads(), warps = (count + kWarp - 1) / kWarp;
    while (fibers.size() < count) fibers.push_back(std::make_unique<Fiber>());
    exchanged.resize(warps * kWarp);
    shared.clear();
    dynamic = std::make_unique<Memory>(launch->shared_bytes);
    for (unsigned i = 0; i < count; ++i) fibers[i]->state = State::ready;
    for (;;) {
        for (unsigned i = 0; i < warps; ++i) run_warp(reversed ? warps - 1 - i : i, reversed);
        bool done = true;
        for (unsigned i = 0; i < count; ++i) done = done && fibers[i]->state == State::done;
        if (done) return;
        if (!release_barrier()) stop("threads wait in a barrier or a warp operation that others never reach");
    }
}

struct Allowed {
    std::mutex mutex;
    std::map<const void*, std::size_t> bytes;
};
Allowed& allowed() {
    static Allowed table;
    return table;
}

std::size_t allowed_bytes(const void* kernel) {
    const std::lock_guard<std::mutex> lock(allowed().mutex);
    const auto found = allowed().bytes.find(kernel);
    return found == allowed().bytes.end() ? kStaticSharedBytes : found->second;
}

}  // namespace

const char* refusal(const Launch& launch) {
    const auto [x, y, z] = launch.block;
    if (x == 0 || y == 0 || z == 0 || z > 64 || x > kMostThreads || y > kMostThreads) return "block out of range";
    if (std::uint64_t{x} * y * z > kMostThreads) return "more than 1024 threads in a block";
    const auto [columns, rows, layers] = launch.grid;
    if (columns == 0 || rows == 0 || layers == 0) return "a grid of no blocks";
    if (columns > 0x7fffffffu || rows > 65535 || layers > 65535) return "grid out of range";
    if (launch.shared_bytes > allowed_bytes(launch.kernel)) return "more dynamic shared memory than asked for";
    return nullptr;
}

bool allow_dynamic_memory(const void* kernel, std::size_t bytes) {
    if (bytes > kMostSharedBytes) return false;
    const std::lock_guard<std::mutex> lock(allowed().mutex);
    allowed().bytes[kernel] = std::max(bytes, kStaticSharedBytes);
    return true;
}

void execute(const Launch& launch) {
    const char* const order = std::getenv("CUDA_ON_HOST_ORDER");
    const bool reversed = order != nullptr && std::strcmp(order, "reversed") == 0;
    block.launch = &launch;
    blockDim = launch.block;
    gridDim = launch.grid;
    const std::uint64_t plane = std::uint64_t{gridDim.x} * gridDim.y, count = plane * gridDim.z;
    for (std::uint64_t i = 0; i < count; ++i) {
        const std::uint64_t index = reversed ? count - 1 - i : i;
        blockIdx = {static_cast<unsigned>(index % gridDim.x), static_cast<unsigned>(index / gridDim.x % gridDim.y),
                    static_cast<unsigned>(index / plane)};
        block.run(reversed);
    }
    block.launch = nullptr;
    block.shared.clear();
    block.dynamic.reset();
}

void* block_memory(const void* declaration, std::size_t bytes) {
    Memory& memory = block.shared.try_emplace(declaration, bytes).first->second;
    std::size_t total = block.dynamic->size;
    for (const auto& [key, part] : block.shared) total += part.size;
    if (total > std::max(kStaticSharedBytes, allowed_bytes(block.launch->kernel))) {
        stop("more shared memory than a block may have");
    }
    return memory.bytes.get();
}

void require_global(const void* address) {
    const auto within = [address](const Memory& memory) {
        const auto offset = static_cast<const unsigned char*>(address) - memory.bytes.get();
        return offset >= 0 && static_cast<std::size_t>(offset) < memory.size;
    };
    bool shared = within(*block.dynamic);
    for (const auto& [key, part] : block.shared) shared = shared || within(part);
    if (shared) stop("an instruction for global memory was given an address in shared memory");
}

void* dynamic_memory() { return block.dynamic->bytes.get(); }

unsigned lane() { return block.current_index % kWarp; }

const std::uint64_t* exchange(unsigned mask, std::uint64_t value) {
    block.current->mask = mask;
    block.current->value = value;
    const unsigned warp = block.current_index / kWarp;
    wait(State::in_warp);
    return block.exchanged.data() + warp * kWarp;
}

}  // namespace cuda_on_host

void __syncthreads() { cuda_on_host::wait(cuda_on_host::State::at_barrier); }
