// Queues of work for a GPU, marks in them, and recorded work that is launched as one.
#pragma once

#include <cstdint>

#include "cuda_check.h"
#include "tensor.h"

namespace dossr {

// A place in a stream's work.
class Event {
public:
    // timed: while the stream captures, the graph records the event each time that it is launched, so that times can be
    // told; such an event is none for others to wait for.
    Event(int device, cudaStream_t stream, bool timed);
    ~Event();
    Event(const Event&) = delete;
    Event& operator=(const Event&) = delete;

    cudaEvent_t handle() const noexcept { return event_; }
    bool done() const;
    void synchronize() const;

    // Throws std::invalid_argument for an event of another GPU.
    double seconds_since(const Event& earlier) const;

private:
    int device_;
    cudaEvent_t event_ = nullptr;
};

// The work of a capture, ready to launch.
class Graph {
public:
    Graph(cudaGraph_t captured, int device);
    ~Graph();
    Graph(const Graph&) = delete;
    Graph& operator=(const Graph&) = delete;

    cudaGraphExec_t handle() const noexcept { return exec_; }
    int device() const noexcept { return device_; }
    std::int64_t kernels() const noexcept { return kernels_; }

private:
    int device_;
    std::int64_t kernels_ = 0;
    cudaGraphExec_t exec_ = nullptr;
};

// One queue of one GPU, which does not wait for the default stream. What it is given runs later: memory must live until
// then. All throw CudaError.
class Stream {
public:
    explicit Stream(int device);
    ~Stream();
    Stream(const Stream&) = delete;
    Stream& operator=(const Stream&) = delete;

    cudaStream_t handle() const noexcept { return stream_; }
    int device() const noexcept { return device_; }

    // Same dtype and shape; at least one of the two on a GPU, and one of those on this one.
    void copy(const Tensor& target, const Tensor& source) const;
    void zero(const Tensor& tensor) const;
    void wait(const Event& event) const;
    void synchronize() const;
    void begin_capture() const;
    Graph* end_capture() const;
    void launch(const Graph& graph) const;

private:
    int device_;
    cudaStream_t stream_ = nullptr;
};

}  // namespace dossr
