// Work in OpenMP's threads, torch's own, and each thread's share of images, or of rows of images.

#pragma once

#include "products.h"

#ifdef _OPENMP
#include <omp.h>
#endif

namespace {

// Calls f(thread, threads) in so many threads at most, one where OpenMP is not compiled in.
template <class F>
void in_threads(Int threads, F f) {
#ifdef _OPENMP
#pragma omp parallel num_threads(threads)
    f(Int(omp_get_thread_num()), Int(omp_get_num_threads()));
#else
    f(Int(0), Int(1));
#endif
}

// No more than there are parts to share, or panels.
Int useful_threads(const Images &s, Int threads, Int parts) {
    return std::max(Int(1), std::min({threads, parts, s.positions() / PANEL}));
}

struct Share {  // of one thread: rows [row0, row1)
    Int row0, row1;
    bool whole;  // those of whole images, so that no thread looks at another's
};

Share share_of(const Images &s, Int thread, Int threads, bool whole) {
    const Int parts = whole ? s.N : s.N * s.H, rows = whole ? s.H : 1;
    return {parts * thread / threads * rows, parts * (thread + 1) / threads * rows, whole};
}

void wait_for_neighbours(const Share &share) {
    if (!share.whole) {
#pragma omp barrier
    }
}

}  // namespace
