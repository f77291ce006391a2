// Actnorm and the 1x1 convolution of a step of flow, composed to one affine map of the channels, and its gradient.

#pragma once

#include "products.h"

namespace {

struct Lu {  // of a step: matrices (C, C), vectors (C)
    const float *permutation, *sign, *lower, *upper, *log_diagonal, *bias, *log_scale;
};

struct LuGradients {
    float *lower, *upper, *log_diagonal, *bias, *log_scale;
};

// W = P L (U + diag(sign * exp(log_diagonal))), of whose L and U only what lies beside the diagonal is looked at.
struct Rotation {
    std::vector<float> PL, U, W;
};

Rotation rotation_of(Int C, const Lu &p) {
    std::vector<float> L(C * C), PL(C * C), U(C * C), W(C * C);
    for (Int i = 0; i < C; i++) {
        for (Int j = 0; j < i; j++) L[i * C + j] = p.lower[i * C + j];
        for (Int j = i + 1; j < C; j++) U[i * C + j] = p.upper[i * C + j];
        L[i * C + i] = 1;
        U[i * C + i] = p.sign[i] * std::exp(p.log_diagonal[i]);
    }
    multiply({C, C, C, as_is(p.permutation, C), {L.data(), C}, {PL.data(), C}});
    multiply({C, C, C, as_is(PL.data(), C), {U.data(), C}, {W.data(), C}});
    return {PL, U, W};
}

// W (exp(log_scale) x + bias) as A x + c, affine (C, C + 1); returns log|det A|.
float compose(Int C, const Lu &p, float *affine) {
    const Rotation r = rotation_of(C, p);
    float logdet = 0;
    for (Int i = 0; i < C; i++) {
        float *row = affine + i * (C + 1), &c = row[C] = 0;
        for (Int j = 0; j < C; j++) {
            row[j] = r.W[i * C + j] * std::exp(p.log_scale[j]);
            c += r.W[i * C + j] * p.bias[j];
        }
        logdet += p.log_scale[i] + p.log_diagonal[i];
    }
    return logdet;
}

// Given the gradients of affine (C, C + 1) and of log|det A|.
void compose_gradient(Int C, const Lu &p, const float *grad_affine, float grad_logdet, const LuGradients &found) {
    const Rotation r = rotation_of(C, p);
    std::vector<float> grad_W(C * C), grad_U(C * C), grad_PL(C * C), grad_L(C * C), U_across(C * C);
    for (Int j = 0; j < C; j++) {
        float of_scale = 0, of_bias = 0;
        for (Int i = 0; i < C; i++) {
            const float g = grad_affine[i * (C + 1) + j] * std::exp(p.log_scale[j]), gc = grad_affine[i * (C + 1) + C];
            grad_W[i * C + j] = g + gc * p.bias[j];
            of_scale += g * r.W[i * C + j];
            of_bias += gc * r.W[i * C + j];
            U_across[j * C + i] = r.U[i * C + j];
        }
        found.log_scale[j] = of_scale + grad_logdet;
        found.bias[j] = of_bias;
    }
    multiply({C, C, C, transposed(r.PL.data(), C), {grad_W.data(), C}, {grad_U.data(), C}});
    multiply({C, C, C, as_is(grad_W.data(), C), {U_across.data(), C}, {grad_PL.data(), C}});
    multiply({C, C, C, transposed(p.permutation, C), {grad_PL.data(), C}, {grad_L.data(), C}});
    for (Int i = 0; i < C; i++) {
        for (Int j = 0; j < C; j++) {
            found.lower[i * C + j] = j < i ? grad_L[i * C + j] : 0;
            found.upper[i * C + j] = j > i ? grad_U[i * C + j] : 0;
        }
        found.log_diagonal[i] = grad_U[i * C + i] * r.U[i * C + i] + grad_logdet;
    }
}

}  // namespace
