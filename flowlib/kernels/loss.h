// The negative log-likelihood of 8-bit images by a whole flow, and its gradient: what glow.py says of a batch, in 32-bit
// floats and two calls, so that a step of training is little more than its steps of flow. kernels/loss.py calls this.

#pragma once

#include "affine.h"
#include "prior.h"

extern "C" {
void flow_forward(const Flow *, const float *, float *, float *, float *, float *, Int, Int);
void flow_gradient(const Flow *, const float *, const float *, const float *, const float *, float *, float *,
                   const Parameters *, Int);
}

namespace {

// Parameters of a level by their names in glow.py, or their gradients.
struct Learned {
    float *bias, *log_scale, *lower, *upper, *log_diagonal, *w_in, *w_middle, *w_out, *b_out, *prior;
};

struct Level {
    Int C, leaving, steps, hidden, layers;
    double bound;  // of the couplings' log-scales
    const float *permutation, *sign;
    Learned weights, gradients;
    // kept for the gradient: what comes in (C, N, H, W), what comes out of each step, log-scales, composed affine maps
    // (steps, C, C + 1), and the couplings' last matrices
    float *x, *ys, *log_scales, *affine, *w_out;

    Lu lu(Int k) const {
        const Learned &w = weights;
        const Int m = k * C * C, v = k * C;
        return {permutation + m, sign + v, w.lower + m, w.upper + m, w.log_diagonal + v, w.bias + v, w.log_scale + v};
    }
    Int size_of_w_out() const { return steps * 9 * (C / 2 * 2) * hidden; }
};

struct Whole {
    Int N, C, H, W, levels;
    double alpha, prior_bound, output_gain;
    const Level *level;

    Images images(Int number, Int channels) const { return {channels, N, H >> (number + 1), W >> (number + 1)}; }
    Flow flow(Int number) const {
        const Level &l = level[number];
        const Images s = images(number, l.C);
        return {N, s.H, s.W, l.C, l.hidden, l.layers, l.steps, l.bound,
                {l.affine, l.weights.w_in, l.weights.w_middle, l.w_out, l.weights.b_out}};
    }
    Prior prior(Int number) const {
        const Level &l = level[number];
        return {images(number, l.C - l.leaving), l.leaving, l.weights.prior, float(prior_bound)};
    }
    // What comes out of a level, its channels that leave first.
    float *out(Int number) const {
        const Level &l = level[number];
        return l.ys + (l.steps - 1) * l.C * images(number, l.C).positions();
    }
};

// Calls f(c, n, i, place) for pixel i of each channel and image of (channels, N, H, W), and its place in (4*channels, N,
// H/2, W/2), when blocks of 2x2 are channels.
template <class F>
void for_squeezed(const Images &s, F f) {
    const Int H = s.H / 2, W = s.W / 2;
    for (Int c = 0; c < s.channels; c++)
        for (Int n = 0; n < s.N; n++)
            for (Int y = 0, i = 0; y < s.H; y++) {
                const Int place = (((4 * c + y % 2 * 2) * s.N + n) * H + y / 2) * W;
                for (Int x = 0; x < s.W; x++, i++) f(c, n, i, place + x % 2 * s.N * H * W + x / 2);
            }
}

// The logit of images (N, C, H, W), squeezed, and what it adds to each image's log-likelihood.
void logits(const Whole &g, const std::uint8_t *images, const float *noise, float *x, double *log_prob) {
    const float alpha = g.alpha, tiny = 1.1920929e-7f;
    for_squeezed({g.C, g.N, g.H, g.W}, [&](Int c, Int n, Int i, Int place) {
        const Int at = (n * g.C + c) * g.H * g.W + i;
        float s = alpha + (1 - 2 * alpha) * ((images[at] + noise[at]) / 256);
        s = s < tiny ? tiny : s > 1 - tiny ? 1 - tiny : s;
        const float here = std::log(s), there = std::log(1 - s);
        x[place] = here - there;
        log_prob[n] -= here + there;
    });
    for (Int n = 0; n < g.N; n++) log_prob[n] += g.C * g.H * g.W * (std::log1p(-2 * g.alpha) - std::log(256.0));
}

}  // namespace

extern "C" {

// The negative log-likelihoods (N) of images (N, C, H, W) at the points of their bins that noise in [0, 1) chooses.
void loss_forward(const Whole *whole, const std::uint8_t *images, const float *noise, float *loss, Int threads) {
    const Whole &g = *whole;
    std::vector<double> log_prob(g.N);
    logits(g, images, noise, g.level[0].x, log_prob.data());
    for (Int number = 0; number < g.levels; number++) {
        const Level &l = g.level[number];
        const Images s = g.images(number, l.C), stays = g.images(number, l.C - l.leaving);
        const Int P = s.H * s.W;
        float logdet = 0;
        for (Int k = 0; k < l.steps; k++) logdet += compose(l.C, l.lu(k), l.affine + k * l.C * (l.C + 1));
        for (Int i = 0; i < l.size_of_w_out(); i++) l.w_out[i] = g.output_gain * l.weights.w_out[i];
        std::vector<float> terms(s.positions(), logdet), room(l.C * s.positions());
        const Flow flow = g.flow(number);
        flow_forward(&flow, l.x, l.ys, l.log_scales, terms.data(), room.data(), l.steps, threads);
        prior_forward(g.prior(number), g.out(number), terms.data(), threads);
        for (Int n = 0; n < g.N; n++) log_prob[n] += std::accumulate(&terms[n * P], &terms[n * P] + P, 0.0);
        if (number + 1 < g.levels) {
            const float *kept = g.out(number) + l.leaving * s.positions();
            float *above = g.level[number + 1].x;
            for_squeezed(stays, [&](Int c, Int n, Int i, Int place) { above[place] = kept[(c * g.N + n) * P + i]; });
        }
    }
    for (Int n = 0; n < g.N; n++) loss[n] = -log_prob[n];
}

// The gradient of all parameters after `loss_forward`, given that of the losses (N).
void loss_gradient(const Whole *whole, const float *grad_loss, Int threads) {
    const Whole &g = *whole;
    std::vector<float> above;  // of what the level above takes
    for (Int number = g.levels - 1; number >= 0; number--) {
        const Level &l = g.level[number];
        const Learned &found = l.gradients;
        const Images s = g.images(number, l.C), stays = g.images(number, l.C - l.leaving);
        const Int P = s.H * s.W, CC = l.C * l.C;
        std::vector<float> grad(l.C * s.positions()), of_terms(s.positions()), room(l.C * s.positions());
        for (Int n = 0; n < g.N; n++) std::fill_n(&of_terms[n * P], P, -grad_loss[n]);
        prior_gradient(g.prior(number), g.out(number), of_terms.data(), grad.data(), found.prior, threads);
        if (number + 1 < g.levels) {
            float *kept = grad.data() + l.leaving * s.positions();
            for_squeezed(stays, [&](Int c, Int n, Int i, Int place) { kept[(c * g.N + n) * P + i] += above[place]; });
        }
        std::vector<float> of_affine(l.steps * l.C * (l.C + 1));
        const Flow flow = g.flow(number);
        const Parameters of_steps = {of_affine.data(), found.w_in, found.w_middle, found.w_out, found.b_out};
        flow_gradient(&flow, l.x, l.ys, l.log_scales, of_terms.data(), grad.data(), room.data(), &of_steps, threads);
        for (Int i = 0; i < l.size_of_w_out(); i++) found.w_out[i] *= g.output_gain;
        const float of_logdet = std::accumulate(of_terms.begin(), of_terms.end(), 0.0);
        for (Int k = 0; k < l.steps; k++) {
            const LuGradients to = {found.lower + k * CC, found.upper + k * CC, found.log_diagonal + k * l.C,
                                    found.bias + k * l.C, found.log_scale + k * l.C};
            compose_gradient(l.C, l.lu(k), of_affine.data() + k * l.C * (l.C + 1), of_logdet, to);
        }
        above = std::move(grad);
    }
}
}
