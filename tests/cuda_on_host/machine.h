// What the parts of the stand-in share: the machine that it shows, and what every call begins and ends with.
#pragma once

#include <chrono>
#include <cstdlib>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "runtime.h"

struct CudaOnHostNode {
    cudaGraphNodeType type;
    std::function<void()> work;
};

struct CudaOnHostGraph {
    std::vector<CudaOnHostNode> nodes;
    std::thread::id thread;
    bool invalid = false;
    std::set<CudaOnHostStream*> apart;  // streams that joined the capture, with work that has not come back
};

// Where in a stream an event was recorded.
struct CudaOnHostMark {
    CudaOnHostStream* stream;
    bool done = false;
    std::chrono::steady_clock::time_point time{};
};

struct CudaOnHostStream {
    int device;
    std::deque<std::function<void()>> waiting;  // what was put and has not run
    CudaOnHostGraph* capture = nullptr;
    bool origin = false;
    std::thread::id away;  // the thread that is in a library's work on this stream
};

struct CudaOnHostEvent {
    int device;
    std::shared_ptr<CudaOnHostMark> mark;
    CudaOnHostGraph* capture = nullptr;   // the capture that it was recorded in
    CudaOnHostStream* stream = nullptr;
};

struct CudaOnHostExec {
    std::vector<CudaOnHostNode> nodes;
    int device;
};

namespace cuda_on_host {

constexpr int kDriver = 13000;
constexpr int kHost = -1;

struct Block {
    std::size_t bytes;
    int device;  // or kHost
};

// Recursive, and can be let go of altogether: a library's work takes locks of its own (Python's), which others hold while
// they wait for this one.
class Lock {
public:
    void lock() {
        mutex_.lock();
        ++depth_;
    }
    void unlock() {
        --depth_;
        mutex_.unlock();
    }
    template <typename Work>
    void without(const Work& work) {
        const int depth = depth_;
        for (int i = 0; i < depth; ++i) unlock();
        work();
        for (int i = 0; i < depth; ++i) lock();
    }

private:
    std::recursive_mutex mutex_;
    int depth_ = 0;
};

struct Machine {
    Lock lock;
    int devices = 2;
    int driver = kDriver;
    bool late = std::getenv("CUDA_ON_HOST_LATE") != nullptr;
    std::set<int> contexts;
    std::map<const char*, Block> blocks;
    std::set<CudaOnHostGraph*> captures;
    int handles = 0;
    std::map<std::string, int> calls;  // by function, so far
    std::string fail;
    int fail_after = 0;
    cudaError_t fail_code = cudaSuccess;
};

Machine& machine();

extern thread_local int current_device;
extern thread_local cudaStreamCaptureMode capture_mode;

// For cudaGetLastError, unless it is no error.
cudaError_t keep(cudaError_t code);

// What a call begins with: the failure that a test has asked for, and whether there is a driver; on a device, its context.
cudaError_t begin(const char* function, bool needs_driver = true);
cudaError_t begin_on_device(const char* function);

// A call that a capture of this thread forbids, and which breaks it.
bool breaks_capture();

// Runs what waits in every stream.
void drain_all();

// Whether these bytes lie in one allocation of that device, or of any.
bool within(const void* memory, std::size_t bytes, int device);
bool on_a_device(const void* memory, std::size_t bytes);

#define BEGIN(function)                                               \
    const std::lock_guard<Lock> held(machine().lock); \
    if (const cudaError_t begun = function; begun != cudaSuccess) return keep(begun)

}  // namespace cuda_on_host
