#include "parallel.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#include <signal.h>
#define DOSSR_POSIX 1
#endif

namespace dossr {
namespace {

struct Job {
    std::int64_t count, grain;
    RangeFunction function;
    void* context;
    std::atomic<std::int64_t> next{0};
    int tickets = 0;  // helpers that may still join; guarded by Pool::mutex
    int active = 0;   // helpers at work; guarded by Pool::mutex
    Job* behind = nullptr;

    void work() noexcept {
        for (;;) {
            const std::int64_t begin = next.fetch_add(grain, std::memory_order_relaxed);
            if (begin >= count) return;
            function(context, begin, std::min(begin + grain, count));
        }
    }
};

// Callers queue a job that lives on their stack, work on it themselves, withdraw it, and wait for its helpers.
class Pool {
public:
    void run(Job& job, int helpers) noexcept {
        {
            std::lock_guard<std::mutex> lock(mutex_);
            helpers = std::min(helpers, grow_to(helpers));
            job.tickets = helpers;
            if (helpers > 0) push(job);
        }
        for (int i = 0; i < helpers; ++i) work_.notify_one();
        job.work();
        if (helpers == 0) return;
        std::unique_lock<std::mutex> lock(mutex_);
        if (job.tickets > 0) remove(job);
        done_.wait(lock, [&] { return job.active == 0; });
    }

private:
    // The number of workers there are, after an attempt to have that many; the system may refuse some.
    int grow_to(int wanted) noexcept {
        while (workers_ < wanted && start_worker()) ++workers_;
        return workers_;
    }

    bool start_worker() noexcept {
#if DOSSR_POSIX
        // Signals stay with the interpreter's own threads.
        sigset_t all, before;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
#endif
        bool started = true;
        try {
            std::thread([this] { serve(); }).detach();
        } catch (const std::system_error&) {
            started = false;
        }
#if DOSSR_POSIX
        pthread_sigmask(SIG_SETMASK, &before, nullptr);
#endif
        return started;
    }

    void serve() noexcept {
        std::unique_lock<std::mutex> lock(mutex_);
        for (;;) {
            work_.wait(lock, [&] { return first_ != nullptr; });
            Job& job = *first_;
            ++job.active;
            if (--job.tickets == 0) remove(job);
            lock.unlock();
            job.work();
            lock.lock();
            if (--job.active == 0) done_.notify_all();
        }
    }

    void push(Job& job) noexcept {
        Job** end = &first_;
        while (*end) end = &(*end)->behind;
        *end = &job;
    }

    void remove(Job& job) noexcept {
        for (Job** link = &first_; *link; link = &(*link)->behind) {
            if (*link == &job) {
                *link = job.behind;
                return;
            }
        }
    }

    std::mutex mutex_;
    std::condition_variable work_, done_;
    Job* first_ = nullptr;
    int workers_ = 0;
};

// Never deleted: its threads sleep until the process ends. After a fork the child forgets it, locks and all.
std::atomic<Pool*> shared_pool{nullptr};

#if DOSSR_POSIX
[[maybe_unused]] const int fork_handler = pthread_atfork(nullptr, nullptr, [] { shared_pool.store(nullptr); });
#endif

// Null when memory is short.
Pool* pool() noexcept {
    Pool* current = shared_pool.load();
    if (current != nullptr) return current;
    Pool* fresh = new (std::nothrow) Pool;
    if (fresh == nullptr || shared_pool.compare_exchange_strong(current, fresh)) return fresh;
    delete fresh;
    return current;
}

int cores() noexcept {
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
#endif
    return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

std::atomic<int> thread_count{0};  // 0: not asked for, so as many as there are cores

}  // namespace

int num_threads() noexcept {
    const int count = thread_count.load(std::memory_order_relaxed);
    return count > 0 ? count : cores();
}

void set_num_threads(int count) noexcept { thread_count.store(count, std::memory_order_relaxed); }

void parallel_ranges(std::int64_t count, std::int64_t grain, RangeFunction function, void* context) noexcept {
    if (count <= 0) return;
    grain = std::max<std::int64_t>(grain, 1);
    Job job{count, grain, function, context};
    const std::int64_t ranges = (count - 1) / grain + 1;
    const int threads = ranges > 1 ? static_cast<int>(std::min<std::int64_t>(ranges, num_threads())) : 1;
    Pool* const helpers = threads > 1 ? pool() : nullptr;
    if (helpers == nullptr) {
        job.work();
    } else {
        helpers->run(job, threads - 1);
    }
}

}  // namespace dossr
