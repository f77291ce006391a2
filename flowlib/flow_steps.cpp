// All steps of flow of a level, their inverse and their gradient, in 32-bit floats. A step is an affine map of the
// channels (actnorm and 1x1 convolution), then Glow's affine coupling, whose network is a 3x3 convolution and ReLU, any
// number of 1x1 convolutions and ReLU, and a 3x3 convolution. flow_steps.py calls this; coupling.py does it in torch.
//
// A panel of positions, (channels, positions), goes through all layers of a network while it stays in the cache of a
// core. Each layer is one product, as are the gradients of its input and of its matrix, and one kernel serves all. A
// step's hidden layers are computed again for its gradient; what is kept is its output and its log-scale.
//
// Images are (channels, N, H, W). Rows of all images together are numbered 0 to N*H - 1, positions 0 to N*H*W - 1.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>
#ifdef _OPENMP
#include <omp.h>
#endif

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

// --- a step of flow --------------------------------------------------------------------------------------------------

struct Parameters {  // of all steps, the first axis but of `w_middle`; the last column of a matrix (+ 1) is a bias
    float *affine;    // (steps, C, C + 1)
    float *w_in;      // (steps, hidden, 9*Cb + 1)
    float *w_middle;  // (layers - 2, steps, hidden, hidden + 1)
    float *w_out;     // (steps, 9*outputs, hidden)
    float *b_out;     // (steps, outputs)
};

struct Flow {
    Int N, H, W, C, hidden, layers, steps;
    double bound;  // of the log-scales
    Parameters weights;

    Int Ca() const { return C / 2; }  // channels that a coupling changes
    Int Cb() const { return C - Ca(); }
    Int outputs() const { return 2 * Ca(); }
    Int positions() const { return N * H * W; }
    Images conditioning() const { return {Cb(), N, H, W}; }
    Images output_images() const { return {outputs(), N, H, W}; }

    // of a layer of the coupling network
    Int last() const { return layers - 1; }
    Int rows(Int layer) const { return layer == last() ? 9 * outputs() : hidden; }
    Int inputs(Int layer) const { return layer ? hidden : 9 * Cb(); }
    Int columns(Int layer) const { return inputs(layer) + (layer != last()); }
    float *matrix(const Parameters &of, Int layer, Int step) const {
        if (layer && layer != last()) return of.w_middle + ((layer - 1) * steps + step) * size(layer);
        return (layer ? of.w_out : of.w_in) + step * size(layer);
    }
    Int size(Int layer) const { return rows(layer) * columns(layer); }
    float *affine(const Parameters &of, Int step) const { return of.affine + step * C * (C + 1); }
    float *bias(const Parameters &of, Int step) const { return of.b_out + step * outputs(); }
};

// Of one thread: what goes into the affine map and into each layer, with a row of ones for the bias, and room for what
// comes out of the last, for gradients of layers, and for an input transposed.
struct Panels {
    Inside inside;
    Matrix x;
    std::vector<Matrix> in;
    Matrix out, gradient, next_gradient, across;
};

Matrix panel_with_ones(Int rows) {
    const Matrix panel = arena.zeros(fours(rows + 1), PANEL);
    std::fill_n(panel.at + rows * panel.stride, PANEL, 1.0f);
    return panel;
}

Panels panels_of(const Flow &f) {
    const Int widest = std::max({f.C, 9 * f.Cb(), f.hidden, 9 * f.outputs()}) + 1;
    Panels p;
    p.x = panel_with_ones(f.C);
    for (Int l = 0; l < f.layers; l++) p.in.push_back(panel_with_ones(f.inputs(l)));
    p.out = arena.zeros(9 * f.outputs(), PANEL);
    p.gradient = arena.zeros(widest, PANEL);
    p.next_gradient = arena.zeros(widest, PANEL);
    p.across = arena.zeros(PANEL, fours(widest));
    return p;
}

// Calls f(from, to) with the panels of the positions of rows [row0, row1).
template <class F>
inline void for_panels(const Flow &flow, Int row0, Int row1, F f) {
    for (Int from = row0 * flow.W, end = row1 * flow.W; from < end; from += PANEL) f(from, std::min(end, from + PANEL));
}

void copy_panel(const float *images, Int channels, Int positions, Int from, Int to, Matrix panel) {
    for (Int c = 0; c < channels; c++)
        std::copy(images + c * positions + from, images + c * positions + to, panel.at + c * panel.stride);
}

// What goes into each layer at positions [from, to).
void hidden_layers(const Flow &f, Panels &p, Int step, const float *b, Int from, Int to) {
    find_inside(f.conditioning(), from, to, p.inside);
    gather(b, f.conditioning(), p.inside, from, to, p.in[0]);
    for (Int l = 0; l < f.last(); l++) {
        const Left w = as_is(f.matrix(f.weights, l, step), f.columns(l));
        multiply<After::relu>({f.hidden, fours(to - from), f.columns(l), w, p.in[l], p.in[l + 1]});
    }
}

// Rows [row0, row1) of a coupling network's output. Hidden layers reach a row further where that is in the same image.
void network_rows(const Flow &f, Panels &p, Int step, const float *b, float *out, Int row0, Int row1) {
    for (Int c = 0; c < f.outputs(); c++) {
        float *channel = out + c * f.positions();
        std::fill(channel + row0 * f.W, channel + row1 * f.W, f.bias(f.weights, step)[c]);
    }
    for_panels(f, row0 % f.H ? row0 - 1 : row0, row1 % f.H ? row1 + 1 : row1, [&](Int from, Int to) {
        hidden_layers(f, p, step, b, from, to);
        const Left w = as_is(f.matrix(f.weights, f.last(), step), f.hidden);
        multiply({f.rows(f.last()), fours(to - from), f.hidden, w, p.in[f.last()], p.out});
        scatter(p.out, f.output_images(), p.inside, from, to, row0, row1, out);
    });
}

// What a network's output does to the changed half of u at positions [from, to), which becomes that of y.
void couple(const Flow &f, const float *out, float *u, float *log_scale, float *logdet, Int from, Int to) {
    const Int P = f.positions();
    const float bound = f.bound;
    for (Int c = 0; c < f.Ca(); c++) {
        const float *raw = out + c * P, *shift = out + (f.Ca() + c) * P;
        float *a = u + c * P, *kept = log_scale ? log_scale + c * P : nullptr;
#pragma omp simd
        for (Int i = from; i < to; i++) {
            const float s = bound * tanh_of(raw[i] / bound);
            a[i] = exp_of(s) * a[i] + shift[i];
            logdet[i] += s;
            if (kept) kept[i] = s;
        }
    }
}

void forward_rows(const Flow &f, Panels &p, Int step, const float *x, float *y, Int row0, Int row1) {
    for_panels(f, row0, row1, [&](Int from, Int to) {
        copy_panel(x, f.C, f.positions(), from, to, p.x);
        const Left A = as_is(f.affine(f.weights, step), f.C + 1);
        multiply({f.C, to - from, f.C + 1, A, p.x, {y + from, f.positions()}});
    });
}

// Undo `couple` and the affine map, whose inverse is given in its place: rows of y to rows of x.
void inverse_rows(const Flow &f, Panels &p, Int step, const float *y, const float *out, float *x, Int row0, Int row1) {
    const Int P = f.positions();
    const float bound = f.bound;
    for_panels(f, row0, row1, [&](Int from, Int to) {
        copy_panel(y, f.C, P, from, to, p.x);
        for (Int c = 0; c < f.Ca(); c++) {
            const float *raw = out + c * P + from, *shift = raw + f.Ca() * P;
            float *a = p.x.at + c * p.x.stride;
#pragma omp simd
            for (Int i = 0; i < to - from; i++) a[i] = (a[i] - shift[i]) * exp_of(-bound * tanh_of(raw[i] / bound));
        }
        multiply({f.C, to - from, f.C + 1, as_is(f.affine(f.weights, step), f.C + 1), p.x, {x + from, P}});
    });
}

// --- its gradient ----------------------------------------------------------------------------------------------------

// Sums of one thread over its positions, for one step: gradients of the matrices, rows padded to fours.
struct Sums {
    Matrix affine;
    std::vector<Matrix> layers;
    std::vector<float> bias;
};

Sums sums_of(const Flow &f) {
    Sums sums;
    sums.affine = arena.zeros(f.C, fours(f.C + 1));
    for (Int l = 0; l < f.layers; l++) sums.layers.push_back(arena.zeros(f.rows(l), fours(f.columns(l))));
    sums.bias.resize(f.outputs());
    return sums;
}

void clear(const Flow &f, Sums &sums) {
    std::memset(sums.affine.at, 0, f.C * sums.affine.stride * sizeof(float));
    for (Int l = 0; l < f.layers; l++)
        std::memset(sums.layers[l].at, 0, f.rows(l) * sums.layers[l].stride * sizeof(float));
    std::fill(sums.bias.begin(), sums.bias.end(), 0.0f);
}

void copy_matrix(Matrix from, Int rows, Int columns, float *to) {
    for (Int i = 0; i < rows; i++) std::copy_n(from.at + i * from.stride, columns, to + i * columns);
}

void copy_sums(const Flow &f, const Sums &sums, Int step, const Parameters &to) {
    copy_matrix(sums.affine, f.C, f.C + 1, f.affine(to, step));
    for (Int l = 0; l < f.layers; l++) copy_matrix(sums.layers[l], f.rows(l), f.columns(l), f.matrix(to, l, step));
    std::copy(sums.bias.begin(), sums.bias.end(), f.bias(to, step));
}

// Through `couple`: the gradient of y's changed half becomes that of u's, and that of the network's output is found.
void couple_gradient(const Flow &f, Panels &p, Sums &sums, Int step, const float *x, const float *log_scale,
                     const float *grad_logdet, float *grad, float *grad_out, Int row0, Int row1) {
    const Int P = f.positions();
    const float bound = f.bound;
    for_panels(f, row0, row1, [&](Int from, Int to) {
        copy_panel(x, f.C, P, from, to, p.x);
        multiply({f.Ca(), fours(to - from), f.C + 1, as_is(f.affine(f.weights, step), f.C + 1), p.x, p.out});
        for (Int c = 0; c < f.Ca(); c++) {
            const float *u = p.out.at + c * p.out.stride, *s = log_scale + c * P + from, *gl = grad_logdet + from;
            float *ga = grad + c * P + from, *gs = grad_out + c * P + from, *gt = gs + f.Ca() * P;
            float scales = 0, shifts = 0;
#pragma omp simd reduction(+ : scales, shifts)
            for (Int i = 0; i < to - from; i++) {
                const float part = s[i] / bound;
                gt[i] = ga[i];
                ga[i] *= exp_of(s[i]);
                gs[i] = (ga[i] * u[i] + gl[i]) * (1 - part * part);
                scales += gs[i];
                shifts += gt[i];
            }
            sums.bias[c] += scales;
            sums.bias[f.Ca() + c] += shifts;
        }
    });
}

// Through the network, in rows of whole images: its input's gradient is added to grad_b, its matrices' to the sums.
void network_gradient(const Flow &f, Panels &p, Sums &sums, Int step, const float *b, const float *grad_out,
                      float *grad_b, Int row0, Int row1) {
    for_panels(f, row0, row1, [&](Int from, Int to) {
        const Int size = to - from;
        hidden_layers(f, p, step, b, from, to);
        gather(grad_out, f.output_images(), p.inside, from, to, p.gradient);
        for (Int l = f.last(); l >= 0; l--) {
            const Int rows = f.rows(l), columns = f.columns(l);
            const Matrix sum = sums.layers[l];
            transpose(p.in[l], columns, size, p.across);
            multiply({rows, fours(columns), size, as_is(p.gradient.at, p.gradient.stride), p.across, sum, sum});
            const Left w = transposed(f.matrix(f.weights, l, step), columns);
            const Product next = {f.inputs(l), fours(size), rows, w, p.gradient, p.next_gradient, {}, p.in[l]};
            l ? multiply<After::where_positive>(next) : multiply(next);
            std::swap(p.gradient, p.next_gradient);
        }
        scatter(p.gradient, f.conditioning(), p.inside, from, to, row0, row1, grad_b);
    });
}

// Through the affine map: the gradient of u becomes that of x.
void affine_gradient(const Flow &f, Panels &p, Sums &sums, Int step, const float *x, float *grad, Int row0, Int row1) {
    for_panels(f, row0, row1, [&](Int from, Int to) {
        copy_panel(x, f.C, f.positions(), from, to, p.x);
        copy_panel(grad, f.C, f.positions(), from, to, p.gradient);
        transpose(p.x, f.C + 1, to - from, p.across);
        const Left g = as_is(p.gradient.at, p.gradient.stride);
        multiply({f.C, fours(f.C + 1), to - from, g, p.across, sums.affine, sums.affine});
        const Left A = transposed(f.affine(f.weights, step), f.C + 1);
        multiply({f.C, to - from, f.C, A, p.gradient, {grad + from, f.positions()}});
    });
}

// --- threads ---------------------------------------------------------------------------------------------------------

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
Int useful_threads(const Flow &f, Int threads, Int parts) {
    return std::max(Int(1), std::min({threads, parts, f.positions() / PANEL}));
}

struct Share {  // of one thread: rows [row0, row1)
    Int row0, row1;
    bool whole;  // those of whole images, so that no thread looks at another's
};

Share share_of(const Flow &f, Int thread, Int threads, bool whole) {
    const Int parts = whole ? f.N : f.N * f.H, rows = whole ? f.H : 1;
    return {parts * thread / threads * rows, parts * (thread + 1) / threads * rows, whole};
}

void wait_for_neighbours(const Share &share) {
    if (!share.whole) {
#pragma omp barrier
    }
}

// Calls f(panels, share) in each thread, with shares of rows where whole images would leave threads waiting for one.
template <class F>
void in_shares(const Flow &flow, Int threads, F f) {
    arena.next = 0;
    threads = useful_threads(flow, threads, flow.N * flow.H);
    std::vector<Panels> panels;
    for (Int t = 0; t < threads; t++) panels.push_back(panels_of(flow));
    in_threads(threads, [&](Int thread, Int of) {
        f(panels[thread], share_of(flow, thread, of, flow.N % of == 0 || flow.N >= 8 * of));
    });
}

}  // namespace

extern "C" {

// Through all steps: x (C, N, H, W) to y, which is ys[(steps - 1) % kept] of ys (kept, C, N, H, W). With kept = steps
// ys holds what comes out of each and log_scales (steps, Ca, N, H, W) is filled; else kept = 2 and log_scales is null.
// logdet (N, H, W) is added to; out (outputs, N, H, W) is room for a network's output.
void flow_forward(const Flow *flow, const float *x0, float *ys, float *log_scales, float *logdet, float *out, Int kept,
                  Int threads) {
    const Flow &f = *flow;
    const Int P = f.positions();
    in_shares(f, threads, [&](Panels &p, Share share) {
        const float *x = x0;
        for (Int step = 0; step < f.steps; step++) {
            float *y = ys + step % kept * f.C * P, *log_scale = log_scales ? log_scales + step * f.Ca() * P : nullptr;
            forward_rows(f, p, step, x, y, share.row0, share.row1);
            wait_for_neighbours(share);
            network_rows(f, p, step, y + f.Ca() * P, out, share.row0, share.row1);
            couple(f, out, y, log_scale, logdet, share.row0 * f.W, share.row1 * f.W);
            x = y;
        }
    });
}

// Back through all steps: y (C, N, H, W) to x, which is xs[(steps - 1) % 2] of xs (2, C, N, H, W). The affine maps are
// given inverted; out (outputs, N, H, W) is room for a network's output.
void flow_inverse(const Flow *flow, const float *y0, float *xs, float *out, Int threads) {
    const Flow &f = *flow;
    const Int P = f.positions();
    in_shares(f, threads, [&](Panels &p, Share share) {
        const float *y = y0;
        for (Int step = f.steps - 1; step >= 0; step--) {
            float *x = xs + (f.steps - 1 - step) % 2 * f.C * P;
            network_rows(f, p, step, y + f.Ca() * P, out, share.row0, share.row1);
            inverse_rows(f, p, step, y, out, x, share.row0, share.row1);
            wait_for_neighbours(share);
            y = x;
        }
    });
}

// The gradients of x, in place of that of y in `grad` (C, N, H, W), and of all parameters, after `flow_forward` with
// kept = steps; out (outputs, N, H, W) is room for the gradient of a network's output.
void flow_gradient(const Flow *flow, const float *x0, const float *ys, const float *log_scales,
                   const float *grad_logdet, float *grad, float *out, const Parameters *gradients, Int threads) {
    const Flow &f = *flow;
    const Int P = f.positions();
    arena.next = 0;
    threads = useful_threads(f, threads, f.N);
    std::vector<Panels> panels;
    std::vector<Sums> sums;
    std::vector<Parameters> found;  // by each thread, and then their total in the first's
    // numbers of each of `Parameters`
    const Int sizes[] = {f.C * (f.C + 1), f.size(0), std::max(Int(0), f.layers - 2) * f.hidden * (f.hidden + 1),
                         f.size(f.last()), f.outputs()};
    for (Int t = 0; t < threads; t++) {
        panels.push_back(panels_of(f));
        sums.push_back(sums_of(f));
        float *room[5];
        for (Int i = 0; t && i < 5; i++) room[i] = arena.zeros(1, f.steps * sizes[i]).at;
        found.push_back(t ? Parameters{room[0], room[1], room[2], room[3], room[4]} : *gradients);
    }
    in_threads(threads, [&](Int thread, Int of) {
        const Share share = share_of(f, thread, of, true);
        Panels &p = panels[thread];
        Sums &s = sums[thread];
        for (Int step = f.steps - 1; step >= 0; step--) {
            const float *x = step ? ys + (step - 1) * f.C * P : x0, *b = ys + step * f.C * P + f.Ca() * P;
            const float *log_scale = log_scales + step * f.Ca() * P;
            clear(f, s);
            couple_gradient(f, p, s, step, x, log_scale, grad_logdet, grad, out, share.row0, share.row1);
            network_gradient(f, p, s, step, b, out, grad + f.Ca() * P, share.row0, share.row1);
            affine_gradient(f, p, s, step, x, grad, share.row0, share.row1);
            copy_sums(f, s, step, found[thread]);
        }
    });
    for (Int t = 1; t < threads; t++) {
        const Parameters &more = found[t], &total = found[0];
        const std::pair<const float *, float *> all[] = {{more.affine, total.affine}, {more.w_in, total.w_in},
            {more.w_middle, total.w_middle}, {more.w_out, total.w_out}, {more.b_out, total.b_out}};
        for (Int i = 0; i < 5; i++)
            for (Int j = 0; j < f.steps * sizes[i]; j++) all[i].second[j] += all[i].first[j];
    }
}
}
