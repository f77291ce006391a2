// The coupling network of one step of flow, and its gradient, in 32-bit floats: a 3x3 convolution and ReLU, any number
// of 1x1 convolutions and ReLU, a 3x3 convolution. coupling_network.py computes the same in torch, and calls this.
//
// A panel of positions, (channels, positions), goes through all layers while it stays in the cache of a core. Each layer
// is one product, as are the gradients of its input and of its matrix, and one kernel serves all. Nothing is kept for
// the gradient: the hidden layers of a panel are computed again.
//
// Images are (channels, N, H, W). Rows of all images together are numbered 0 to N*H - 1, positions 0 to N*H*W - 1.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

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

// c (M, N) = a (M, K) * b (K, N), N a multiple of four.
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
    columns_from<Four, 1, after>(p, n);
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
};

// For every row of positions in [from, to), channel and one of nine neighbours in rows [row0, row1) of the same image,
// calls f(row, position, place, length): so many positions of the panel's row, from that one on, have as many
// neighbours from that place of the images on.
template <class F>
inline void for_neighbours(const Images &s, Int from, Int to, Int row0, Int row1, F f) {
    for (Int q = from; q < to;) {
        const Int row = q / s.W, y = row % s.H, x0 = q % s.W, x1 = std::min(s.W, x0 + to - q);
        for (Int dy = -1; dy <= 1; dy++) {
            if (y + dy < 0 || y + dy >= s.H || row + dy < row0 || row + dy >= row1) continue;
            for (Int dx = -1; dx <= 1; dx++) {
                const Int first = std::max(x0, -dx), last = std::min(x1, s.W - dx);
                for (Int c = 0; c < s.channels; c++) {
                    const Int place = (c * s.N * s.H + row + dy) * s.W + first + dx;
                    f(((dy + 1) * 3 + dx + 1) * s.channels + c, q - from + first - x0, place, last - first);
                }
            }
        }
        q += x1 - x0;
    }
}

// The 3x3 neighbourhoods of positions [from, to), zero outside each image: panel (9*channels, positions).
void gather(const float *images, const Images &shape, Int from, Int to, Matrix panel) {
    std::memset(panel.at, 0, 9 * shape.channels * panel.stride * sizeof(float));
    for_neighbours(shape, from, to, 0, shape.N * shape.H, [&](Int row, Int position, Int place, Int length) {
        float *panel_row = panel.at + row * panel.stride + position;
        for (Int i = 0; i < length; i++) panel_row[i] = images[place + i];
    });
}

// The adjoint of `gather`: add a panel onto those rows of the images that lie in [row0, row1).
void scatter(Matrix panel, const Images &shape, Int from, Int to, Int row0, Int row1, float *images) {
    for_neighbours(shape, from, to, row0, row1, [&](Int row, Int position, Int place, Int length) {
        const float *panel_row = panel.at + row * panel.stride + position;
        for (Int i = 0; i < length; i++) images[place + i] += panel_row[i];
    });
}

void fill_rows(float *images, const Images &s, Int row0, Int row1, const float *values) {
    for (Int c = 0; c < s.channels; c++)
        std::fill(images + (c * s.N * s.H + row0) * s.W, images + (c * s.N * s.H + row1) * s.W, values ? values[c] : 0);
}

// --- the network -----------------------------------------------------------------------------------------------------

struct Network {
    Int N, H, W, Cb, outputs, hidden, layers;
    const float *const *weights;  // (hidden, 9*Cb + 1), any of (hidden, hidden + 1), (9*outputs, hidden): biases last
    const float *bias;            // (outputs,)

    Images input_images() const { return {Cb, N, H, W}; }
    Images output_images() const { return {outputs, N, H, W}; }
    Int last() const { return layers - 1; }
    Int rows(Int layer) const { return layer == last() ? 9 * outputs : hidden; }
    Int inputs(Int layer) const { return layer ? hidden : 9 * Cb; }
    Int columns(Int layer) const { return inputs(layer) + (layer != last()); }
};

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

// Of one thread: what goes into each layer, with a row of ones for the bias, and room for what comes out of the last,
// for gradients of layers, and for an input transposed.
struct Panels {
    std::vector<Matrix> in;
    Matrix out, gradient, next_gradient, across;
};

Panels panels_of(const Network &net) {
    const Int widest = std::max({9 * net.Cb, net.hidden, 9 * net.outputs}) + 1;
    Panels p;
    for (Int l = 0; l < net.layers; l++) {
        p.in.push_back(arena.zeros(fours(net.inputs(l) + 1), PANEL));
        std::fill_n(p.in[l].at + net.inputs(l) * p.in[l].stride, PANEL, 1.0f);
    }
    p.out = arena.zeros(9 * net.outputs, PANEL);
    p.gradient = arena.zeros(widest, PANEL);
    p.next_gradient = arena.zeros(widest, PANEL);
    p.across = arena.zeros(PANEL, fours(widest));
    return p;
}

// What goes into each layer at positions [from, to).
void hidden_layers(const Network &net, Panels &p, const float *b, Int from, Int to) {
    gather(b, net.input_images(), from, to, p.in[0]);
    for (Int l = 0; l < net.last(); l++) {
        const Int K = net.columns(l);
        multiply<After::relu>({net.hidden, fours(to - from), K, as_is(net.weights[l], K), p.in[l], p.in[l + 1]});
    }
}

// Rows [row0, row1) of the network's output. Hidden layers reach a row further where that is in the same image.
void output_rows(const Network &net, Panels &p, const float *b, float *out, Int row0, Int row1) {
    fill_rows(out, net.output_images(), row0, row1, net.bias);
    const Int first = (row0 % net.H ? row0 - 1 : row0) * net.W, end = (row1 % net.H ? row1 + 1 : row1) * net.W;
    for (Int from = first, last = net.last(); from < end; from += PANEL) {
        const Int to = std::min(end, from + PANEL);
        hidden_layers(net, p, b, from, to);
        const Left w = as_is(net.weights[last], net.hidden);
        multiply({net.rows(last), fours(to - from), net.hidden, w, p.in[last], p.out});
        scatter(p.out, net.output_images(), from, to, row0, row1, out);
    }
}

// Rows [row0, row1), of whole images, of the gradient of b; what they give to that of each matrix is added to `sums`.
void gradient_rows(const Network &net, Panels &p, const std::vector<Matrix> &sums, const float *b,
                   const float *grad_out, float *grad_b, Int row0, Int row1) {
    fill_rows(grad_b, net.input_images(), row0, row1, nullptr);
    for (Int from = row0 * net.W; from < row1 * net.W; from += PANEL) {
        const Int to = std::min(row1 * net.W, from + PANEL), size = to - from;
        hidden_layers(net, p, b, from, to);
        gather(grad_out, net.output_images(), from, to, p.gradient);
        for (Int l = net.last(); l >= 0; l--) {
            const Int rows = net.rows(l), columns = net.columns(l);
            transpose(p.in[l], columns, size, p.across);
            multiply({rows, fours(columns), size, as_is(p.gradient.at, p.gradient.stride), p.across, sums[l], sums[l]});
            const Left w = transposed(net.weights[l], columns);
            Product next = {net.inputs(l), fours(size), rows, w, p.gradient, p.next_gradient, {}, p.in[l]};
            l ? multiply<After::where_positive>(next) : multiply(next);
            std::swap(p.gradient, p.next_gradient);
        }
        scatter(p.gradient, net.input_images(), from, to, row0, row1, grad_b);
    }
}

// Calls f(thread, first, last) with the shares of [0, n), each in a thread of its own where OpenMP is compiled in.
template <class F>
void in_threads(Int n, Int threads, F f) {
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (Int t = 0; t < threads; t++) f(t, n * t / threads, n * (t + 1) / threads);
}

// No more than there are parts to share, or panels.
Int useful_threads(const Network &net, Int threads, Int parts) {
    return std::max(Int(1), std::min({threads, parts, net.N * net.H * net.W / PANEL}));
}

extern "C" {

// out (outputs, N, H, W) of b (Cb, N, H, W).
void network(const Network *net, const float *b, float *out, Int threads) {
    arena.next = 0;
    threads = useful_threads(*net, threads, net->N * net->H);
    std::vector<Panels> panels;
    for (Int t = 0; t < threads; t++) panels.push_back(panels_of(*net));
    in_threads(net->N * net->H, threads, [&](Int t, Int row0, Int row1) {
        output_rows(*net, panels[t], b, out, row0, row1);
    });
}

// The gradients of b and each of the weights, given that of out.
void network_gradient(const Network *net, const float *b, const float *grad_out, float *grad_b,
                      float *const *grad_weights, Int threads) {
    arena.next = 0;
    threads = useful_threads(*net, threads, net->N);
    std::vector<Panels> panels(threads);
    std::vector<std::vector<Matrix>> sums(threads);
    for (Int t = 0; t < threads; t++) {
        panels[t] = panels_of(*net);
        for (Int l = 0; l < net->layers; l++) sums[t].push_back(arena.zeros(net->rows(l), fours(net->columns(l))));
    }
    in_threads(net->N, threads, [&](Int t, Int first, Int last) {
        gradient_rows(*net, panels[t], sums[t], b, grad_out, grad_b, first * net->H, last * net->H);
    });
    for (Int l = 0; l < net->layers; l++)
        for (Int i = 0, columns = net->columns(l); i < net->rows(l); i++)
            for (Int j = 0; j < columns; j++) {
                float total = 0;
                for (const auto &sum : sums) total += sum[l].at[i * sum[l].stride + j];
                grad_weights[l][i * columns + j] = total;
            }
}
}
