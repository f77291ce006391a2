// Products of matrices in the registers, neighbourhoods of positions, exp and tanh, and a thread's memory.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

namespace {

using Int = std::int64_t;

// A product is computed in tiles of ROWS x VECTORS vectors of LANES numbers, which fill the registers.
constexpr Int ROWS = 6;
#if defined(__AVX512F__)
constexpr Int LANES = 16, VECTORS = 4;
#elif defined(__AVX__)
constexpr Int LANES = 8, VECTORS = 2;
#elif defined(__aarch64__)
constexpr Int LANES = 4, VECTORS = 4;
#else
constexpr Int LANES = 4, VECTORS = 2;
#endif
constexpr Int PANEL = 96;  // positions
constexpr float LOG_TWO_PI = 1.8378770664f;

typedef float Vector __attribute__((vector_size(4 * LANES)));
typedef float Four __attribute__((vector_size(16)));

// --- products --------------------------------------------------------------------------------------------------------

struct Matrix {
    float *at = nullptr;
    Int stride = 0;  // numbers from row to row
};

struct Left {  // a matrix as it is or transposed
    const float *at;
    Int row, column;
};

Left as_is(const float *at, Int stride) { return {at, stride, 1}; }
Left transposed(const float *at, Int stride) { return {at, 1, stride}; }

enum class After { nothing, relu, where_positive };

// c (M, N) = a (M, K) * b (K, N).
struct Product {
    Int M, N, K;
    Left a;
    Matrix b, c;
    Matrix plus = {};   // (M, N), if any
    Matrix other = {};  // of `where_positive`: c is zero where this is not positive
};

template <class V>
inline V load(const float *from) {
    V value;
    std::memcpy(&value, from, sizeof(V));
    return value;
}

template <class V, int MR, int NV, After after>
inline void tile(const Product &p, Int m, Int n) {
    constexpr Int lanes = sizeof(V) / sizeof(float);
    V sum[MR][NV];
    for (Int i = 0; i < MR; i++)
        for (Int j = 0; j < NV; j++)
            sum[i][j] = p.plus.at ? load<V>(p.plus.at + (m + i) * p.plus.stride + n + j * lanes) : V{};
    const float *a = p.a.at + m * p.a.row, *b = p.b.at + n;
    for (Int k = 0; k < p.K; k++, a += p.a.column, b += p.b.stride) {
        V row[NV];
        for (Int j = 0; j < NV; j++) row[j] = load<V>(b + j * lanes);
        for (Int i = 0; i < MR; i++)
            for (Int j = 0; j < NV; j++) sum[i][j] += a[i * p.a.row] * row[j];
    }
    for (Int i = 0; i < MR; i++)
        for (Int j = 0; j < NV; j++) {
            V value = sum[i][j];  // a NaN passes both conditions, as in torch
            if (after == After::relu) value = value < 0 ? V{} : value;
            if (after == After::where_positive) {
                V other = load<V>(p.other.at + (m + i) * p.other.stride + n + j * lanes);
                value = other <= 0 ? V{} : value;
            }
            std::memcpy(p.c.at + (m + i) * p.c.stride + n + j * lanes, &value, sizeof(V));
        }
}

template <class V, int NV, After after>
inline Int columns_from(const Product &p, Int n) {
    const Int width = NV * sizeof(V) / sizeof(float);
    for (; n + width <= p.N; n += width) {
        Int m = 0;
        for (; m + ROWS <= p.M; m += ROWS) tile<V, ROWS, NV, after>(p, m, n);
        for (; m < p.M; m++) tile<V, 1, NV, after>(p, m, n);
    }
    return n;
}

template <After after = After::nothing>
void multiply(const Product &p) {
    Int n = columns_from<Vector, VECTORS, after>(p, 0);
    n = columns_from<Vector, 2, after>(p, n);
    n = columns_from<Vector, 1, after>(p, n);
    n = columns_from<Four, 1, after>(p, n);
    columns_from<float, 1, after>(p, n);
}

Int fours(Int n) { return (n + 3) / 4 * 4; }

// (rows, columns) to (columns, rows), both up to the next multiple of four.
void transpose(Matrix from, Int rows, Int columns, Matrix to) {
    for (Int j = 0; j < columns; j += 4)
        for (Int i = 0; i < rows; i += 4) {
            Four in[4];
            for (Int k = 0; k < 4; k++) in[k] = load<Four>(from.at + (i + k) * from.stride + j);
            for (Int k = 0; k < 4; k++) {
                const Four out = {in[0][k], in[1][k], in[2][k], in[3][k]};
                std::memcpy(to.at + (j + k) * to.stride + i, &out, sizeof out);
            }
        }
}

// --- neighbourhoods --------------------------------------------------------------------------------------------------

struct Images {
    Int channels, N, H, W;

    Int positions() const { return N * H * W; }
};

// Which of a panel's positions have a neighbour in the same image, by its place: (dy, dx) from (-1, -1) on.
struct Inside {
    std::int32_t at[9][PANEL];
};

void find_inside(const Images &s, Int from, Int to, Inside &inside) {
    std::fill_n(&inside.at[0][0], 9 * PANEL, 1);
    for (Int q = from, i = 0; q < to;) {  // the rest of a row of an image
        const Int y = q / s.W % s.H, x = q % s.W, length = std::min(s.W - x, to - q);
        for (Int k = 0; k < 3; k++) {
            if (y == 0) std::fill_n(inside.at[k] + i, length, 0);
            if (y == s.H - 1) std::fill_n(inside.at[6 + k] + i, length, 0);
            if (x == 0) inside.at[3 * k][i] = 0;
            if (x + length == s.W) inside.at[3 * k + 2][i + length - 1] = 0;
        }
        q += length, i += length;
    }
}

// For each of nine neighbours and each channel calls f(panel's row, inside, place, first, last): positions from + i of
// the panel, i in [first, last), have theirs at images[place + i], which is in rows [row0, row1), where inside[i].
template <class F>
inline void for_neighbours(const Images &s, const Inside &inside, Int from, Int to, Int row0, Int row1, F f) {
    for (Int k = 0; k < 9; k++) {
        const Int place = from + (k / 3 - 1) * s.W + k % 3 - 1;
        const Int first = std::min(to - from, std::max(Int(0), row0 * s.W - place));
        const Int last = std::max(first, std::min(to - from, row1 * s.W - place));
        for (Int c = 0; c < s.channels; c++)
            f(k * s.channels + c, inside.at[k], c * s.positions() + place, first, last);
    }
}

// The 3x3 neighbourhoods of positions [from, to), zero outside each image: panel (9*channels, positions).
void gather(const float *images, const Images &s, const Inside &inside, Int from, Int to, Matrix panel) {
    for_neighbours(s, inside, from, to, 0, s.N * s.H, [&](Int row, auto in, Int place, Int first, Int last) {
        float *panel_row = panel.at + row * panel.stride;
        std::fill_n(panel_row, first, 0.0f);
        std::fill(panel_row + last, panel_row + to - from, 0.0f);
#pragma omp simd
        for (Int i = first; i < last; i++) {
            const float value = images[place + i];
            panel_row[i] = in[i] ? value : 0;
        }
    });
}

// The adjoint of `gather`: add a panel onto those rows of the images that lie in [row0, row1).
void scatter(Matrix panel, const Images &s, const Inside &inside, Int from, Int to, Int row0, Int row1, float *images) {
    for_neighbours(s, inside, from, to, row0, row1, [&](Int row, auto in, Int place, Int first, Int last) {
        const float *panel_row = panel.at + row * panel.stride;
#pragma omp simd
        for (Int i = first; i < last; i++) {
            const float value = panel_row[i];
            images[place + i] += in[i] ? value : 0;
        }
    });
}

// --- functions -------------------------------------------------------------------------------------------------------

// Branch-free, so that the compiler makes vectors of them; to a few units in the last place; NaN of NaN.

// For |x| < 80. Remainder of a power of two by the Taylor series, after Cody & Waite.
inline float exp_of(float x) {
    x = x < -80.0f ? -80.0f : x > 80.0f ? 80.0f : x;
    const float shifted = x * 1.44269504f + 12582912.0f;  // the nearest integer is in its last bits
    const float n = shifted - 12582912.0f, r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float power = 1 / 720.0f + r * (1 / 5040.0f);
    power = 0.5f + r * (1 / 6.0f + r * (1 / 24.0f + r * (1 / 120.0f + r * power)));
    power = 1 + r * (1 + r * power);
    std::uint32_t bits;
    std::memcpy(&bits, &shifted, sizeof bits);
    bits = (bits + 127) << 23;  // 2**n
    float scale;
    std::memcpy(&scale, &bits, sizeof scale);
    return power * scale;
}

// By exp but near zero, where that would lose digits: there by the Taylor series.
inline float tanh_of(float x) {
    const float size = x < 0 ? -x : x, e = exp_of(2 * size), far = 1 - 2 / (e + 1), square = x * x;
    float near = -17 / 315.0f + square * (62 / 2835.0f + square * (-1382 / 155925.0f));
    near = 1 + square * (-1 / 3.0f + square * (2 / 15.0f + square * near));
    return size < 0.3f ? x * near : x < 0 ? -far : far;
}

// Memory of a calling thread, kept from call to call: fresh pages cost as much as a small product.
struct Arena {
    std::vector<std::unique_ptr<float[]>> blocks;
    std::vector<Int> sizes;
    size_t next = 0;

    Matrix zeros(Int rows, Int columns) {
        Int stride = (columns + 15) / 16 * 16;
        stride += stride % 64 ? 0 : 16;  // rows a multiple of many cache lines apart would share few of its sets
        const Int size = rows * stride + 16;
        if (next == blocks.size()) {
            blocks.emplace_back();
            sizes.push_back(0);
        }
        if (sizes[next] < size) {
            blocks[next].reset();
            blocks[next].reset(new float[size]);
            sizes[next] = size;
        }
        const auto address = reinterpret_cast<std::uintptr_t>(blocks[next++].get());
        const Matrix m = {reinterpret_cast<float *>((address + 63) / 64 * 64), stride};
        std::memset(m.at, 0, rows * stride * sizeof(float));
        return m;
    }
};
thread_local Arena arena;

}  // namespace
