// All steps of flow of a level, their inverse and their gradient, in 32-bit floats. A step is an affine map of the
// channels (actnorm and 1x1 convolution), then Glow's affine coupling, whose network is a 3x3 convolution and ReLU, any
// number of 1x1 convolutions and ReLU, and a 3x3 convolution. steps.py calls this; coupling.py does it in torch.
//
// A panel of positions, (channels, positions), goes through all layers of a network while it stays in the cache of a
// core. Each layer is one product, as are the gradients of its input and of its matrix, and one kernel serves all. A
// step's hidden layers are computed again for its gradient; what is kept is its output and its log-scale.
//
// Images are (channels, N, H, W). Rows of all images together are numbered 0 to N*H - 1, positions 0 to N*H*W - 1.

#include "loss.h"

namespace {

// --- a step of flow --------------------------------------------------------------------------------------------------

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
    for_panels(f.W, row0 % f.H ? row0 - 1 : row0, row1 % f.H ? row1 + 1 : row1, [&](Int from, Int to) {
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
    for_panels(f.W, row0, row1, [&](Int from, Int to) {
        copy_panel(x, f.C, f.positions(), from, to, p.x);
        const Left A = as_is(f.affine(f.weights, step), f.C + 1);
        multiply({f.C, to - from, f.C + 1, A, p.x, {y + from, f.positions()}});
    });
}

// Undo `couple` and the affine map, whose inverse is given in its place: rows of y to rows of x.
void inverse_rows(const Flow &f, Panels &p, Int step, const float *y, const float *out, float *x, Int row0, Int row1) {
    const Int P = f.positions();
    const float bound = f.bound;
    for_panels(f.W, row0, row1, [&](Int from, Int to) {
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
    for_panels(f.W, row0, row1, [&](Int from, Int to) {
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
    for_panels(f.W, row0, row1, [&](Int from, Int to) {
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
    for_panels(f.W, row0, row1, [&](Int from, Int to) {
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

// Calls f(panels, share) in each thread, with shares of rows where whole images would leave threads waiting for one.
template <class F>
void in_shares(const Flow &flow, Int threads, F f) {
    arena.next = 0;
    const Images s = flow.conditioning();
    threads = useful_threads(s, threads, s.N * s.H);
    std::vector<Panels> panels;
    for (Int t = 0; t < threads; t++) panels.push_back(panels_of(flow));
    in_threads(threads, [&](Int thread, Int of) {
        f(panels[thread], share_of(s, thread, of, flow.N % of == 0 || flow.N >= 8 * of));
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
    threads = useful_threads(f.conditioning(), threads, f.N);
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
        const Share share = share_of(f.conditioning(), thread, of, true);
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
