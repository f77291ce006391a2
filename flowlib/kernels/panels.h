// The parameters and sizes of all steps of a level, and the panels that a thread works on.

#pragma once

#include "products.h"

namespace {

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

// Calls f(from, to) with the panels of the positions of rows [row0, row1), W wide.
template <class F>
inline void for_panels(Int W, Int row0, Int row1, F f) {
    for (Int from = row0 * W, end = row1 * W; from < end; from += PANEL) f(from, std::min(end, from + PANEL));
}

void copy_panel(const float *images, Int channels, Int positions, Int from, Int to, Matrix panel) {
    for (Int c = 0; c < channels; c++)
        std::copy(images + c * positions + from, images + c * positions + to, panel.at + c * panel.stride);
}

}  // namespace
