// One element of what is done to float planes: the color fixes and the blending of tiles.
#pragma once

#include "hd.h"

namespace dossr {

// (1, 2, 1) / 4: halves and quarters are exact, so only the two sums round.
DOSSR_HD float binomial(float before, float at, float after) {
    return add_rn(mul_rn(0.25f, add_rn(before, after)), mul_rn(0.5f, at));
}

// A value of an image of one mean, moved to another with `gain` times its standard deviation.
DOSSR_HD float matched(float value, float from_mean, float gain, float to_mean) {
    return add_rn(mul_rn(add_rn(value, -from_mean), gain), to_mean);
}

// A value of a tile, weighted by its row and column, onto what is there.
DOSSR_HD float blended(float canvas, float weight_y, float weight_x, float tile) {
    return fma_rn(mul_rn(weight_y, weight_x), tile, canvas);
}

}  // namespace dossr
