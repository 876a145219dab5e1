// What     every optimiser's step for many tensors in one launch: SGD with momentum, Adam(W), NAdam, RAdam, Adamax, RMSprop, Adagrad, Adadelta.
// Maths    stands beside each rule below, as in kdl/kernels/reference/optimizer.py; g is the gradient after `maximize` and weight decay.
//          Corrections that depend on the step alone are computed on the host, in double.
// Traffic  every array is read once, every one but the gradient written once: SGD 2R+1W elements (momentum 3R+2W), Adam 4R+3W (amsgrad
//          5R+4W): bound by device memory.
// Tiling   256 threads, four 16-byte packs of every array each: a block does 1024 packs of one tensor. The table of addresses
//          travels in the kernel's parameters (4 KB on every architecture), so 73 tensors or more go in one launch; a block finds its tensor
//          by bisection. Tensors that are not aligned, and the last block of each, go element by element.
// Numerics float16 and bfloat16 are computed in float and rounded once per array; float64 in double.
// Limits   arrays of one call share one dtype, those of one tensor one dense layout.
// Measured not yet on hardware. Under simt the traffic is as stated (tests/simt/test_optimizer.py).
#include <cmath>
#include <initializer_list>

#include "kdl/dispatch.h"
#include "kdl/launch.h"
#include "kdl/pack.h"

namespace kdl::optimizer {

// --- device ---

constexpr int threads = 256, packs_per_thread = 4;
template <class T> inline constexpr int block_items = threads * packs_per_thread * pack_width<T>;

// The gradient that a step uses.
template <class A> struct Gradient {
  A weight_decay;
  bool maximize;
  KDL_FN A operator()(A g, A p) const { return (maximize ? -g : g) + (weight_decay != A(0) ? weight_decay * p : A(0)); }
};

// A rule gets the gradient and the values that it changes: p first, then its averages. `arrays` counts them all, the gradient included.
template <class A> struct Sgd {  // b <- momentum b + (1 - dampening) g; p <- p - lr (nesterov ? g + momentum b : b)
  static constexpr int arrays = 3;
  Gradient<A> gradient;
  A lr, momentum, undamped;
  bool buffered, nesterov;
  KDL_FN void operator()(A g, A (&v)[2]) const {
    g = gradient(g, v[0]);
    if (buffered) {
      v[1] = momentum * v[1] + undamped * g;
      g = nesterov ? g + momentum * v[1] : v[1];
    }
    v[0] -= lr * g;
  }
};

// m <- m + (1 - beta1) (g - m); s <- beta2 s + (1 - beta2) g^2
template <class A> struct Moments {
  A weight1, beta2, weight2;
  KDL_FN void update(A g, A& m, A& s) const {
    m += weight1 * (g - m);
    s = beta2 * s + weight2 * g * g;
  }
};

template <class A> struct Adam {  // p <- keep p - rate m / (sqrt(s) / root + eps); with amsgrad the largest s so far stands for s
  static constexpr int arrays = 5;
  Gradient<A> gradient;
  Moments<A> moments;
  A rate, root, eps, keep;
  bool amsgrad;
  KDL_FN void operator()(A g, A (&v)[4]) const {
    moments.update(gradient(g, v[0]), v[1], v[2]);
    A s = v[2];
    if (amsgrad) s = v[3] = v[3] > s ? v[3] : s;
    v[0] = v[0] * keep - rate * v[1] / (sqrt(s) / root + eps);
  }
};

template <class A> struct NAdam {  // p <- keep p - (rate_g g + rate_m m) / (sqrt(s / correction) + eps)
  static constexpr int arrays = 4;
  Gradient<A> gradient;
  Moments<A> moments;
  A rate_g, rate_m, correction, eps, keep;
  KDL_FN void operator()(A g, A (&v)[3]) const {
    g = gradient(g, v[0]);
    moments.update(g, v[1], v[2]);
    v[0] = v[0] * keep - (rate_g * g + rate_m * v[1]) / (sqrt(v[2] / correction) + eps);
  }
};

template <class A> struct RAdam {  // p <- keep p - rate m, divided by sqrt(s) + eps once the variance of that is finite
  static constexpr int arrays = 4;
  Gradient<A> gradient;
  Moments<A> moments;
  A rate, eps, keep;
  bool adapt;
  KDL_FN void operator()(A g, A (&v)[3]) const {
    moments.update(gradient(g, v[0]), v[1], v[2]);
    const A step = rate * v[1];
    v[0] = v[0] * keep - (adapt ? step / (sqrt(v[2]) + eps) : step);
  }
};

template <class A> struct Adamax {  // u <- max(beta2 u, |g| + eps); p <- p - rate m / u
  static constexpr int arrays = 4;
  Gradient<A> gradient;
  A weight1, beta2, rate, eps;
  KDL_FN void operator()(A g, A (&v)[3]) const {
    g = gradient(g, v[0]);
    v[1] += weight1 * (g - v[1]);
    const A faded = beta2 * v[2], size = fabs(g) + eps;
    v[2] = faded >= size || faded != faded ? faded : size;
    v[0] -= rate * v[1] / v[2];
  }
};

template <class A> struct RMSprop {  // s <- alpha s + (1 - alpha) g^2; p <- p - lr b with b <- momentum b + g / (sqrt(s - mean^2) + eps)
  static constexpr int arrays = 5;
  Gradient<A> gradient;
  A lr, alpha, weight, eps, momentum;
  bool centered, buffered;
  KDL_FN void operator()(A g, A (&v)[4]) const {
    g = gradient(g, v[0]);
    A s = v[1] = alpha * v[1] + weight * g * g;
    if (centered) {
      v[2] += weight * (g - v[2]);
      s -= v[2] * v[2];
    }
    A step = g / (sqrt(s) + eps);
    if (buffered) step = v[3] = momentum * v[3] + step;
    v[0] -= lr * step;
  }
};

template <class A> struct Adagrad {  // s <- s + g^2; p <- p - rate g / (sqrt(s) + eps)
  static constexpr int arrays = 3;
  Gradient<A> gradient;
  A rate, eps;
  KDL_FN void operator()(A g, A (&v)[2]) const {
    g = gradient(g, v[0]);
    v[1] += g * g;
    v[0] -= rate * g / (sqrt(v[1]) + eps);
  }
};

template <class A> struct Adadelta {  // s, d <- running averages of g^2 and delta^2; delta = sqrt(d + eps) / sqrt(s + eps) g; p <- p - lr delta
  static constexpr int arrays = 4;
  Gradient<A> gradient;
  A lr, rho, weight, eps;
  KDL_FN void operator()(A g, A (&v)[3]) const {
    g = gradient(g, v[0]);
    v[1] = rho * v[1] + weight * g * g;
    const A delta = sqrt(v[2] + eps) / sqrt(v[1] + eps) * g;
    v[2] = rho * v[2] + weight * delta * delta;
    v[0] -= lr * delta;
  }
};

// The tensors of one launch. `addresses` holds the gradient, the parameter, then its averages; nullptr where there is none.
template <int arrays> struct Table {
  static constexpr int capacity = (4096 - 256) / (8 * arrays + 8 + 4);
  void* addresses[capacity][arrays];
  int64_t sizes[capacity];
  unsigned first_blocks[capacity];
  int count;

  KDL_FN int tensor_of(unsigned block) const {
    int low = 0, high = count - 1;
    while (low < high) {
      const int middle = (low + high + 1) / 2;
      if (first_blocks[middle] <= block) low = middle;
      else high = middle - 1;
    }
    return low;
  }
};

template <class T, class Rule, int arrays> KDL_FN void update(const Rule& rule, T (&x)[arrays]) {
  compute_t<T> values[arrays - 1];
#pragma unroll
  for (int a = 1; a < arrays; ++a) values[a - 1] = to_compute(x[a]);
  rule(to_compute(x[0]), values);
#pragma unroll
  for (int a = 1; a < arrays; ++a) x[a] = from_compute<T>(values[a - 1]);
}

template <class T, class Rule, int arrays> KDL_FN void update_pack(const Rule& rule, void* const (&addresses)[arrays], int64_t at) {
  Pack<T> packs[arrays] = {};
#pragma unroll
  for (int a = 0; a < arrays; ++a)
    if (addresses[a]) packs[a] = load_pack(static_cast<const T*>(addresses[a]) + at);
#pragma unroll
  for (int i = 0; i < pack_width<T>; ++i) {
    T x[arrays];
#pragma unroll
    for (int a = 0; a < arrays; ++a) x[a] = packs[a].item[i];
    update(rule, x);
#pragma unroll
    for (int a = 1; a < arrays; ++a) packs[a].item[i] = x[a];
  }
#pragma unroll
  for (int a = 1; a < arrays; ++a)
    if (addresses[a]) store_pack(static_cast<T*>(addresses[a]) + at, packs[a]);
}

template <class T, class Rule, int arrays> KDL_FN void update_element(const Rule& rule, void* const (&addresses)[arrays], int64_t at) {
  T x[arrays] = {};
#pragma unroll
  for (int a = 0; a < arrays; ++a)
    if (addresses[a]) x[a] = static_cast<const T*>(addresses[a])[at];
  update(rule, x);
#pragma unroll
  for (int a = 1; a < arrays; ++a)
    if (addresses[a]) static_cast<T*>(addresses[a])[at] = x[a];
}

template <class T, class Rule>
__global__ void __launch_bounds__(threads) step_kernel(const __grid_constant__ Table<Rule::arrays> table, const Rule rule) {
  const int tensor = table.tensor_of(blockIdx.x);
  const int64_t size = table.sizes[tensor], begin = static_cast<int64_t>(blockIdx.x - table.first_blocks[tensor]) * block_items<T>;
  void* addresses[Rule::arrays];
  uintptr_t bits = 0;
#pragma unroll
  for (int a = 0; a < Rule::arrays; ++a) {
    addresses[a] = table.addresses[tensor][a];
    bits |= reinterpret_cast<uintptr_t>(addresses[a]);
  }
  if (bits % 16 == 0 && begin + block_items<T> <= size) {
#pragma unroll 1
    for (int u = 0; u < packs_per_thread; ++u) update_pack<T>(rule, addresses, begin + (u * threads + static_cast<int>(threadIdx.x)) * pack_width<T>);
  } else {
    const int64_t end = begin + block_items<T> < size ? begin + block_items<T> : size;
#pragma unroll 1
    for (int64_t at = begin + threadIdx.x; at < end; at += threads) update_element<T>(rule, addresses, at);
  }
}

// --- launch ---

template <class T, class Rule> void launch_steps(const Rule& rule, const Arrays* const (&lists)[Rule::arrays], Stream stream) {
  const Arrays& grads = *lists[0];
  Table<Rule::arrays> table;
  size_t next = 0;
  while (next < grads.size()) {
    table.count = 0;
    int64_t blocks = 0;
    for (; next < grads.size() && table.count < table.capacity; ++next) {
      const int64_t size = grads[next].size();
      if (size == 0) continue;
      const int row = table.count++;
      for (int a = 0; a < Rule::arrays; ++a) table.addresses[row][a] = lists[a]->empty() ? nullptr : (*lists[a])[next].data;
      table.sizes[row] = size;
      table.first_blocks[row] = static_cast<unsigned>(blocks);
      blocks = blocks_for(blocks + blocks_for(size, block_items<T>), 1);
    }
    if (blocks > 0) launch<step_kernel<T, Rule>>({static_cast<unsigned>(blocks), threads, stream}, table, rule);
  }
}

// make(type) gives the rule in which that type is computed. Lists may be empty where the rule allows it.
template <int arrays, class Make> void step(const Arrays* const (&lists)[arrays], Stream stream, Make make) {
  const Arrays& grads = *lists[0];
  for (const Arrays* list : lists)
    expect(list->size() == grads.size() || (list->empty() && list != lists[1]), "expected one array per gradient in every list, got ",
           list->size(), " and ", grads.size());
  for (size_t i = 0; i < grads.size(); ++i)
    for (const Arrays* list : lists) {
      if (list->empty()) continue;
      const Array& array = (*list)[i];
      expect(array.dtype == grads[0].dtype && array.same_layout(grads[i]) && array.is_dense(),
             "arrays must share one dtype, those of one parameter one dense layout, got ", array, " and the gradient ", grads[i]);
    }
  if (grads.empty()) return;
  dispatch_floating(grads[0], "grads", [&](auto type) {
    using T = typename decltype(type)::type;
    const auto rule = make(Type<compute_t<T>>{});
    static_assert(decltype(rule)::arrays == arrays, "one list per array of the rule");
    launch_steps<T>(rule, lists, stream);
  });
}

void sgd_step(const Arrays& grads, const Arrays& params, const Arrays& momentum_buffers, double lr, double momentum, double dampening,
              double weight_decay, bool nesterov, bool maximize, Stream stream) {
  step({&grads, &params, &momentum_buffers}, stream, [&](auto type) {
    using A = typename decltype(type)::type;
    return Sgd<A>{{A(weight_decay), maximize}, A(lr), A(momentum), A(1 - dampening), !momentum_buffers.empty(), nesterov};
  });
}
KDL_EXPORT(sgd_step, "grads", "params", "momentum_buffers", "lr", "momentum", "dampening", "weight_decay", "nesterov", "maximize")

void adam_step(const Arrays& grads, const Arrays& params, const Arrays& exp_avgs, const Arrays& exp_avg_sqs, const Arrays& max_exp_avg_sqs,
               int64_t step_number, double lr, double beta1, double beta2, double eps, double weight_decay, bool decoupled, bool maximize,
               Stream stream) {
  const double t = static_cast<double>(step_number);
  step({&grads, &params, &exp_avgs, &exp_avg_sqs, &max_exp_avg_sqs}, stream, [&](auto type) {
    using A = typename decltype(type)::type;
    return Adam<A>{{decoupled ? A(0) : A(weight_decay), maximize},  {A(1 - beta1), A(beta2), A(1 - beta2)},
                   A(lr / (1 - std::pow(beta1, t))),                A(std::sqrt(1 - std::pow(beta2, t))),
                   A(eps), decoupled ? A(1 - lr * weight_decay) : A(1), !max_exp_avg_sqs.empty()};
  });
}
KDL_EXPORT(adam_step, "grads", "params", "exp_avgs", "exp_avg_sqs", "max_exp_avg_sqs", "step", "lr", "beta1", "beta2", "eps", "weight_decay",
           "decoupled", "maximize")

void nadam_step(const Arrays& grads, const Arrays& params, const Arrays& exp_avgs, const Arrays& exp_avg_sqs, int64_t step_number,
                double mu_product, double lr, double beta1, double beta2, double eps, double weight_decay, double momentum_decay, bool decoupled,
                bool maximize, Stream stream) {
  const double t = static_cast<double>(step_number);
  const double mu = beta1 * (1 - 0.5 * std::pow(0.96, t * momentum_decay)), mu_next = beta1 * (1 - 0.5 * std::pow(0.96, (t + 1) * momentum_decay));
  step({&grads, &params, &exp_avgs, &exp_avg_sqs}, stream, [&](auto type) {
    using A = typename decltype(type)::type;
    return NAdam<A>{{decoupled ? A(0) : A(weight_decay), maximize},  {A(1 - beta1), A(beta2), A(1 - beta2)},
                    A(lr * (1 - mu) / (1 - mu_product)),             A(lr * mu_next / (1 - mu_product * mu_next)),
                    A(1 - std::pow(beta2, t)), A(eps), decoupled ? A(1 - lr * weight_decay) : A(1)};
  });
}
KDL_EXPORT(nadam_step, "grads", "params", "exp_avgs", "exp_avg_sqs", "step", "mu_product", "lr", "beta1", "beta2", "eps", "weight_decay",
           "momentum_decay", "decoupled", "maximize")

void radam_step(const Arrays& grads, const Arrays& params, const Arrays& exp_avgs, const Arrays& exp_avg_sqs, int64_t step_number, double lr,
                double beta1, double beta2, double eps, double weight_decay, bool decoupled, bool maximize, Stream stream) {
  const double t = static_cast<double>(step_number), power = std::pow(beta2, t), correction = std::sqrt(1 - power);
  const double rho_inf = 2 / (1 - beta2) - 1, rho = rho_inf - 2 * t * power / (1 - power);
  const bool adapt = rho > 5;  // the variance of the adaptive rate is finite
  const double rectification = adapt ? std::sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho)) * correction : 1;
  step({&grads, &params, &exp_avgs, &exp_avg_sqs}, stream, [&](auto type) {
    using A = typename decltype(type)::type;
    return RAdam<A>{{decoupled ? A(0) : A(weight_decay), maximize}, {A(1 - beta1), A(beta2), A(1 - beta2)},
                    A(lr / (1 - std::pow(beta1, t)) * rectification), A(eps), decoupled ? A(1 - lr * weight_decay) : A(1), adapt};
  });
}
KDL_EXPORT(radam_step, "grads", "params", "exp_avgs", "exp_avg_sqs", "step", "lr", "beta1", "beta2", "eps", "weight_decay", "decoupled",
           "maximize")

void adamax_step(const Arrays& grads, const Arrays& params, const Arrays& exp_avgs, const Arrays& exp_infs, int64_t step_number, double lr,
                 double beta1, double beta2, double eps, double weight_decay, bool maximize, Stream stream) {
  const double rate = lr / (1 - std::pow(beta1, static_cast<double>(step_number)));
  step({&grads, &params, &exp_avgs, &exp_infs}, stream, [&](auto type) {
    using A = typename decltype(type)::type;
    return Adamax<A>{{A(weight_decay), maximize}, A(1 - beta1), A(beta2), A(rate), A(eps)};
  });
}
KDL_EXPORT(adamax_step, "grads", "params", "exp_avgs", "exp_infs", "step", "lr", "beta1", "beta2", "eps", "weight_decay", "maximize")

void rmsprop_step(const Arrays& grads, const Arrays& params, const Arrays& square_avgs, const Arrays& grad_avgs, const Arrays& momentum_buffers,
                  double lr, double alpha, double eps, double weight_decay, double momentum, bool maximize, Stream stream) {
  step({&grads, &params, &square_avgs, &grad_avgs, &momentum_buffers}, stream, [&](auto type) {
    using A = typename decltype(type)::type;
    return RMSprop<A>{{A(weight_decay), maximize}, A(lr), A(alpha), A(1 - alpha), A(eps), A(momentum), !grad_avgs.empty(), !momentum_buffers.empty()};
  });
}
KDL_EXPORT(rmsprop_step, "grads", "params", "square_avgs", "grad_avgs", "momentum_buffers", "lr", "alpha", "eps", "weight_decay", "momentum",
           "maximize")

void adagrad_step(const Arrays& grads, const Arrays& params, const Arrays& sums, int64_t step_number, double lr, double lr_decay, double eps,
                  double weight_decay, bool maximize, Stream stream) {
  const double rate = lr / (1 + static_cast<double>(step_number - 1) * lr_decay);
  step({&grads, &params, &sums}, stream, [&](auto type) {
    using A = typename decltype(type)::type;
    return Adagrad<A>{{A(weight_decay), maximize}, A(rate), A(eps)};
  });
}
KDL_EXPORT(adagrad_step, "grads", "params", "sums", "step", "lr", "lr_decay", "eps", "weight_decay", "maximize")

void adadelta_step(const Arrays& grads, const Arrays& params, const Arrays& square_avgs, const Arrays& acc_deltas, double lr, double rho,
                   double eps, double weight_decay, bool maximize, Stream stream) {
  step({&grads, &params, &square_avgs, &acc_deltas}, stream, [&](auto type) {
    using A = typename decltype(type)::type;
    return Adadelta<A>{{A(weight_decay), maximize}, A(lr), A(rho), A(1 - rho), A(eps)};
  });
}
KDL_EXPORT(adadelta_step, "grads", "params", "square_avgs", "acc_deltas", "lr", "rho", "eps", "weight_decay", "maximize")

}  // namespace kdl::optimizer
