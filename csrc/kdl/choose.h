// Which row of a family's tile table a call gets: of the legal ones, that with the least modelled cost.
//
//   TileChooser choose({M, N, K, batches}, element_bytes, most_splits);
//   for every row of the table: choose.consider("gemm_mma 128x128x32", {...}, obstacle);
//   launch row number choose.best().row, with choose.best().splits
#pragma once
#include <string>

#include "kdl/explain.h"
#include "kdl/launch.h"
#include "kdl/ptx.cuh"

namespace kdl {

// The element types that a row of a tile table is instantiated for; f16 stands for float16 and bfloat16.
namespace tile_types {
enum : int { f32 = 1, f64 = 2, f16 = 4 };
}
template <class T> constexpr bool is_among(int types) {
  return types & (sizeof(T) == 2 ? tile_types::f16 : sizeof(T) == 4 ? tile_types::f32 : tile_types::f64);
}

struct TileCandidate {
  int BM, BN, BK;
  int rate;  // multiply-adds per clock, in units of what the ordinary float units do
};

struct TileChoice {
  int row = -1, splits = 1, k_per_split = 0;
  double cost = 0;
};

class TileChooser {
 public:
  struct Sizes {
    int64_t M, N, K, batches;
  };

  TileChooser(const Sizes& sizes, int element_bytes, int most_splits)
      : sizes_(sizes), element_bytes_(element_bytes), most_splits_(most_splits), device_(current_device()) {
    tell("product M ", sizes.M, ", N ", sizes.N, ", K ", sizes.K, ", batches ", sizes.batches, " on ", device_.multiprocessors,
            " multiprocessors of compute capability ", device_.capability / 10, ".", device_.capability % 10, "\n");
  }

  // Why a kernel of mma.sync cannot run here; empty when it can.
  std::string mma_obstacle(bool is_half, bool is_float, bool tf32, size_t shared_bytes) const {
    if (!is_half && !is_float) return "no tensor-core instruction of this type is used";
    if (is_float && !tf32) return "float32 is not to be rounded to TF32";
    if (device_.capability < ptx::mma_capability) return "the device's compute capability is below 8.0";
    if (shared_bytes > static_cast<size_t>(device_.shared_bytes))
      return join("it needs ", shared_bytes, " bytes of shared memory of the device's ", device_.shared_bytes);
    return "";
  }

  // `obstacle` says why the row is not legal for this call; empty when it is.
  void consider(const std::string& name, const TileCandidate& tile, const std::string& obstacle) {
    const int row = rows_++;
    const ForcedTile& forced = forced_tile();
    if (name == forced.row) expect(obstacle.empty(), "the tile ", name, " was asked for, but ", obstacle);
    if (!obstacle.empty()) return tell("  ", name, ": not legal, ", obstacle, "\n");
    TileChoice cheapest;
    for (int splits = 1; splits <= most_splits_; splits *= 2) {
      const TileChoice choice = with_splits(row, tile, forced.splits > 0 && most_splits_ > 1 ? forced.splits : splits);
      if (cheapest.row < 0 || choice.cost < cheapest.cost) cheapest = choice;
    }
    tell("  ", name, cheapest.splits > 1 ? join(", ", cheapest.splits, " splits of k") : "", ": cost ", static_cast<int64_t>(cheapest.cost), "\n");
    const bool is_forced = name == forced.row;
    if (best_.row < 0 || (!found_forced_ && (is_forced || cheapest.cost < best_.cost))) {
      best_ = cheapest;
      best_name_ = name;
    }
    found_forced_ |= is_forced;
  }

  const TileChoice& best() const {
    expect(best_.row >= 0, "no tile is legal");
    tell("  chosen: ", best_name_, "\n");
    return best_;
  }

 private:
  // In clocks of a multiprocessor: rounds of blocks, each multiplying and loading from L2; for splits also their sums' way through memory and
  // another launch. A model to rank rows by, not a prediction.
  TileChoice with_splits(int row, const TileCandidate& tile, int splits) const {
    constexpr double multiply_adds = 128, l2_bytes = 64, memory_bytes = 16, launch = 4000;  // per clock and multiprocessor; clocks
    const int64_t steps = (sizes_.K + tile.BK - 1) / tile.BK, steps_each = (steps + splits - 1) / splits;
    TileChoice choice{row, steps_each > 0 ? static_cast<int>((steps + steps_each - 1) / steps_each) : 1, static_cast<int>(steps_each * tile.BK)};
    const int64_t tiles = ((sizes_.M + tile.BM - 1) / tile.BM) * ((sizes_.N + tile.BN - 1) / tile.BN) * sizes_.batches;
    const int64_t rounds = (tiles * choice.splits + device_.multiprocessors - 1) / device_.multiprocessors;
    const double step = tile.BK * (tile.BM * tile.BN / (multiply_adds * tile.rate) + (tile.BM + tile.BN) * element_bytes_ / l2_bytes);
    choice.cost = static_cast<double>(rounds) * static_cast<double>(steps_each + 2) * step;
    if (choice.splits > 1)
      choice.cost += launch + (choice.splits * 2.0 * sizeof(float) * static_cast<double>(sizes_.M * sizes_.N * sizes_.batches)) /
                                  (memory_bytes * device_.multiprocessors);
    return choice;
  }

  Sizes sizes_;
  int element_bytes_, most_splits_, rows_ = 0;
  Device device_;
  TileChoice best_;
  std::string best_name_;
  bool found_forced_ = false;
};

}  // namespace kdl
