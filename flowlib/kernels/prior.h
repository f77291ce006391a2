// The prior of what leaves a level, given what stays: a normal distribution whose mean and log-scale a 3x3 convolution
// of what stays gives, or, where nothing stays, its bias alone. Log-densities of positions, and their gradient.

#pragma once

#include "panels.h"
#include "threads.h"

namespace {

struct Prior {
    Images stays;
    Int leaving;          // channels, which come first
    const float *matrix;  // (2*leaving, 9*staying + 1): means, then log-scales; the last column is the bias
    float bound;          // of the log-scales

    Int rows() const { return 2 * leaving; }
    Int columns() const { return 9 * stays.channels + 1; }
    Int positions() const { return stays.positions(); }
};

struct PriorPanels {
    Inside inside;
    Matrix in, out, gradient, across, sum;
};

std::vector<PriorPanels> panels_of(const Prior &f, Int threads) {
    arena.next = 0;
    std::vector<PriorPanels> panels(useful_threads(f.stays, threads, f.stays.N));
    for (PriorPanels &p : panels) {
        p.in = panel_with_ones(9 * f.stays.channels);
        p.out = arena.zeros(std::max(f.rows(), f.columns()), PANEL);
        p.gradient = arena.zeros(f.rows(), PANEL);
        p.across = arena.zeros(PANEL, fours(f.columns()));
        p.sum = arena.zeros(f.rows(), fours(f.columns()));
    }
    return panels;
}

// Of positions [from, to), in p.out: the means of what leaves, then the log-scales.
void means_and_scales(const Prior &f, PriorPanels &p, const float *x, Int from, Int to) {
    find_inside(f.stays, from, to, p.inside);
    gather(x + f.leaving * f.positions(), f.stays, p.inside, from, to, p.in);
    multiply({f.rows(), fours(to - from), f.columns(), as_is(f.matrix, f.columns()), p.in, p.out});
    for (Int c = f.leaving; c < f.rows(); c++) {
        float *raw = p.out.at + c * p.out.stride;
#pragma omp simd
        for (Int i = 0; i < to - from; i++) raw[i] = f.bound * tanh_of(raw[i] / f.bound);
    }
}

// Log-densities of the positions of x (leaving + staying, N, H, W) are added to log_prob (N, H, W).
void prior_forward(const Prior &f, const float *x, float *log_prob, Int threads) {
    std::vector<PriorPanels> panels = panels_of(f, threads);
    in_threads(panels.size(), [&](Int thread, Int of) {
        PriorPanels &p = panels[thread];
        const Share share = share_of(f.stays, thread, of, true);
        for_panels(f.stays.W, share.row0, share.row1, [&](Int from, Int to) {
            means_and_scales(f, p, x, from, to);
            for (Int c = 0; c < f.leaving; c++) {
                const float *mean = p.out.at + c * p.out.stride, *s = mean + f.leaving * p.out.stride;
                const float *z = x + c * f.positions() + from;
                float *sum = log_prob + from;
#pragma omp simd
                for (Int i = 0; i < to - from; i++) {
                    const float e = (z[i] - mean[i]) * exp_of(-s[i]);
                    sum[i] -= 0.5f * (LOG_TWO_PI + e * e) + s[i];
                }
            }
        });
    });
}

// The gradient of x, all of it, and that of the matrix, given that of the log-densities.
void prior_gradient(const Prior &f, const float *x, const float *grad_log_prob, float *grad, float *grad_matrix,
                    Int threads) {
    std::vector<PriorPanels> panels = panels_of(f, threads);
    std::fill_n(grad + f.leaving * f.positions(), f.stays.channels * f.positions(), 0.0f);
    in_threads(panels.size(), [&](Int thread, Int of) {
        PriorPanels &p = panels[thread];
        const Share share = share_of(f.stays, thread, of, true);
        for_panels(f.stays.W, share.row0, share.row1, [&](Int from, Int to) {
            const Int size = to - from;
            means_and_scales(f, p, x, from, to);
            for (Int c = 0; c < f.leaving; c++) {
                const Int at = c * f.positions() + from;
                const float *mean = p.out.at + c * p.out.stride, *s = mean + f.leaving * p.out.stride;
                const float *z = x + at, *g = grad_log_prob + from;
                float *grad_mean = p.gradient.at + c * p.gradient.stride, *grad_z = grad + at;
                float *grad_raw = grad_mean + f.leaving * p.gradient.stride;
#pragma omp simd
                for (Int i = 0; i < size; i++) {
                    const float w = exp_of(-s[i]), e = (z[i] - mean[i]) * w, part = s[i] / f.bound;
                    grad_mean[i] = g[i] * e * w;
                    grad_z[i] = -grad_mean[i];
                    grad_raw[i] = g[i] * (e * e - 1) * (1 - part * part);
                }
            }
            transpose(p.in, f.columns(), size, p.across);
            const Left g = as_is(p.gradient.at, p.gradient.stride), w = transposed(f.matrix, f.columns());
            multiply({f.rows(), fours(f.columns()), size, g, p.across, p.sum, p.sum});
            multiply({f.columns() - 1, fours(size), f.rows(), w, p.gradient, p.out});
            scatter(p.out, f.stays, p.inside, from, to, share.row0, share.row1, grad + f.leaving * f.positions());
        });
    });
    std::fill_n(grad_matrix, f.rows() * f.columns(), 0.0f);
    for (const PriorPanels &p : panels)
        for (Int i = 0; i < f.rows(); i++)
            for (Int j = 0; j < f.columns(); j++) grad_matrix[i * f.columns() + j] += p.sum.at[i * p.sum.stride + j];
}

}  // namespace
