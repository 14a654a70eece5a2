/* The weighted median of every coordinate, several columns at a time: in each the smallest value is
   looked for, by halving, up to which half of the weight lies. Nothing is sorted or moved. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define LANES 8 /* columns at a time */
#define WHOLE (1 << 30) /* all the weight, in whole numbers */
typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t ivec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef double dvec __attribute__((vector_size(8 * LANES), aligned(8), may_alias));
typedef int64_t lvec __attribute__((vector_size(8 * LANES), aligned(8), may_alias));
typedef int64_t i64;
#define INLINE static inline __attribute__((always_inline))

INLINE ivec pick(ivec mask, ivec yes, ivec no) { return (yes & mask) | (no & ~mask); }

/* Numbers of 32 bits that rise as floats do, and back: those of negative floats fall. */
INLINE ivec turned(ivec bits) { return bits ^ ((bits >> 31) & INT32_MAX); }

INLINE int some(ivec mask)
{
    int any = 0;
    for (int v = 0; v < LANES; v++)
        any |= mask[v];
    return any;
}

INLINE dvec held(ivec mask, double share)
{
    return (dvec)(__builtin_convertvector(mask, lvec) & (lvec)(share - (dvec){0}));
}

INLINE double value(int32_t key)
{
    float number;
    memcpy(&number, &key, sizeof number);
    return number;
}

/* found takes the medians of LANES columns, NaN where weights in whole numbers cannot tell. */
static void middle(const ivec *keys, i64 clients, const int32_t *coarse, const double *share,
                   double tie, double *found)
{
    int32_t half = WHOLE / 2 - (int32_t)clients; /* each may have lost a half by rounding */
    ivec low = keys[0], high = keys[0], next = (ivec){0} + INT32_MAX;
    for (i64 k = 1; k < clients; k++) {
        low = pick(keys[k] < low, keys[k], low);
        high = pick(keys[k] > high, keys[k], high);
    }
    while (some(low < high)) {
        ivec between = (low & high) + ((low ^ high) >> 1), sum = {0};
        for (i64 k = 0; k < clients; k++)
            sum += (keys[k] <= between) & coarse[k];
        ivec enough = sum >= half;
        high = pick(enough, between, high);
        low = pick(enough, low, between + 1);
    }
    dvec below = {0}, with = {0};
    for (i64 k = 0; k < clients; k++) {
        ivec above = keys[k] > low;
        below += held(keys[k] < low, share[k]);
        with += held(~above, share[k]);
        next = pick(above & (keys[k] < next), keys[k], next);
    }
    ivec one = turned(low), two = turned(next);
    for (int v = 0; v < LANES; v++) {
        int known = below[v] < 0.5 - tie && with[v] >= 0.5 - tie;
        int halved = with[v] <= 0.5 + tie && next[v] != INT32_MAX;
        found[v] = known ? 0.5 * (value(one[v]) + value(halved ? two[v] : one[v])) : NAN;
    }
}

/* The medians of [clients][columns], rows a number of floats apart; see
   fedrms/combining/by_coordinate.py. Returns 1 where memory is lacking, or nobody has weight. */
int weighted_median(const float *block, i64 row, i64 clients, i64 columns, const double *share,
                    double tie, double *found)
{
    i64 count = 0, *counted = malloc(sizeof(i64) * clients);
    ivec *keys = aligned_alloc(sizeof(ivec), sizeof(ivec) * clients);
    int32_t *coarse = malloc(sizeof(int32_t) * clients);
    double *weight = malloc(sizeof(double) * clients), told[LANES];
    int lacking = !counted || !keys || !coarse || !weight;
    for (i64 k = 0; k < clients && !lacking; k++)
        if (share[k] > tie) {
            counted[count] = k;
            coarse[count] = (int32_t)rint(share[k] * WHOLE);
            weight[count++] = share[k];
        }
    lacking |= !count;
    for (i64 c = 0; c < columns && !lacking; c += LANES) {
        int width = columns - c < LANES ? (int)(columns - c) : LANES;
        ivec strange = {0};
        for (i64 k = 0; k < count; k++) {
            const float *from = block + counted[k] * row + c;
            vec values = {0};
            if (width == LANES)
                values = *(const vec *)from;
            else
                memcpy(&values, from, sizeof(float) * width);
            values += 0.0f; /* there is one zero */
            strange |= values != values;
            keys[k] = turned((ivec)values);
        }
        middle(keys, count, coarse, weight, tie, told);
        for (int v = 0; v < width; v++)
            found[c + v] = strange[v] ? NAN : told[v];
    }
    free(counted);
    free(keys);
    free(coarse);
    free(weight);
    return lacking;
}
