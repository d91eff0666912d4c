// What CUDA refused, in words: what was being done, what CUDA says and what to do.
#pragma once

#include <stdexcept>
#include <string>

namespace dossr {

class CudaError : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

}  // namespace dossr
