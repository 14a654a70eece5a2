/* Plain SGD on a stack of linear layers with ReLU between them, one client after the other.

   A layer's weights lie in tiles of outputs, in a tile inputs before outputs, outputs padded with
   zeros to whole vectors; padding stays zero. A product keeps the sums of some rows and a tile in
   registers. Vectors are those of GCC and Clang, for any processor. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define LANES 8
#ifdef __AVX512VL__ /* twice the registers of AVX2 */
#define ROWS 8      /* whose sums are kept in registers */
#define TILE (3 * LANES)
#else
#define ROWS 6
#define TILE (2 * LANES)
#endif
#define INPUTS 128 /* of a product, taken together: their weights stay in the first cache */

#define INLINE static inline __attribute__((always_inline))
typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t ivec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int64_t i64;

typedef struct {
    int inputs, outputs;
    int padded; /* outputs, whole vectors */
    i64 weight, bias; /* where they lie in a client's model; bias is -1 without one */
} Layer;

INLINE int least(int a, int b) { return a < b ? a : b; }
INLINE int whole(int width) { return (width + LANES - 1) / LANES * LANES; }
INLINE vec all(float value) { return value - (vec){0}; }

/* Run CALL(rows, vectors) with constants, for the widths that a tile can have. */
#define WITH_WIDTH(CALL, R, WIDTH)                                                                 \
    switch ((WIDTH) / LANES) {                                                                     \
    case 1: CALL(R, 1); break;                                                                     \
    case 2: CALL(R, 2); break;                                                                     \
    default: CALL(R, TILE / LANES);                                                                \
    }

/* Run CALL for all of COUNT rows, as many at a time as there are registers. */
#define WITH_ROWS(CALL, AT, COUNT, WIDTH)                                                          \
    for (; AT + ROWS <= COUNT; AT += ROWS) WITH_WIDTH(CALL, ROWS, WIDTH)                           \
    for (; AT + 4 <= COUNT; AT += 4) WITH_WIDTH(CALL, 4, WIDTH)                                    \
    for (; AT + 2 <= COUNT; AT += 2) WITH_WIDTH(CALL, 2, WIDTH)                                    \
    for (; AT < COUNT; AT++) WITH_WIDTH(CALL, 1, WIDTH)

/* into[b][o] = from[b][o] + sum_i x[b][i] weight[i][o] */
INLINE void product(const int rows, const int wide, const float *const *x, int first, int last,
                    const float *weight, const float *from, int from_row, float *into, int row)
{
    vec sum[ROWS][TILE / LANES];
    for (int b = 0; b < rows; b++)
        for (int v = 0; v < wide; v++)
            sum[b][v] = *(const vec *)(from + (i64)b * from_row + v * LANES);
    for (int i = first; i < last; i++) {
        const float *own = weight + (i64)i * wide * LANES;
        for (int b = 0; b < rows; b++)
            for (int v = 0; v < wide; v++)
                sum[b][v] += x[b][i] * *(const vec *)(own + v * LANES);
    }
    for (int b = 0; b < rows; b++)
        for (int v = 0; v < wide; v++)
            *(vec *)(into + (i64)b * row + v * LANES) = sum[b][v];
}

/* into[batch][row] = from[batch][from_row] + x[batch][inputs] weight, whose tiles have room for more
   inputs than there are. */
static void forward(int batch, const float *const *x, int inputs, int room, const float *weight,
                    const float *from, int from_row, float *into, int row)
{
    for (int first = 0; first < inputs; first += INPUTS, from = into, from_row = row) {
        int last = least(first + INPUTS, inputs);
        for (int o = 0; o < row; o += TILE) {
            const float *tile = weight + (i64)o * room;
            int b = 0, width = least(TILE, row - o);
#define PRODUCT(R, V)                                                                              \
    product(R, V, x + b, first, last, tile, from + (i64)b * from_row + o, from_row,                \
            into + (i64)b * row + o, row)
            WITH_ROWS(PRODUCT, b, batch, width)
        }
    }
}

/* weight[i][o] -= sum_b x[b][i] slope[b][o] */
INLINE void descend(const int rows, const int wide, int batch, const float *const *x, int first,
                    const float *slope, int row, float *weight)
{
    vec sum[ROWS][TILE / LANES];
    float *own = weight + (i64)first * wide * LANES;
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < wide; v++)
            sum[i][v] = *(vec *)(own + (i64)(i * wide + v) * LANES);
    for (int b = 0; b < batch; b++)
        for (int i = 0; i < rows; i++)
            for (int v = 0; v < wide; v++)
                sum[i][v] -= x[b][first + i] * *(const vec *)(slope + (i64)b * row + v * LANES);
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < wide; v++)
            *(vec *)(own + (i64)(i * wide + v) * LANES) = sum[i][v];
}

/* Take the slopes [batch][row], times the learning rate, from the weights and the bias. */
static void update(int batch, const float *const *x, int inputs, const float *slope, int row,
                   float *weight, float *bias)
{
    for (int first = 0; first < inputs; first += ROWS) /* few: the examples stay in the cache */
        for (int o = 0; o < row; o += TILE) {
            int i = first, end = least(first + ROWS, inputs), width = least(TILE, row - o);
#define DESCEND(R, V)                                                                              \
    descend(R, V, batch, x, i, slope + o, row, weight + (i64)o * inputs)
            WITH_ROWS(DESCEND, i, end, width)
        }
    for (int b = 0; bias && b < batch; b++)
        for (int o = 0; o < row; o++)
            bias[o] -= slope[(i64)b * row + o];
}

/* Copy weights between [outputs][inputs], as they are sent, and tiles. */
static void repack(int inputs, int outputs, int padded, float *sent, float *tiles, int to_tiles)
{
    for (int o = 0; o < outputs; o += TILE) {
        int width = least(TILE, padded - o), end = least(o + TILE, outputs);
        float *tile = tiles + (i64)o * inputs;
        for (int first = 0; first < inputs; first += 16)
            for (int p = o; p < end; p++)
                for (int i = first; i < least(first + 16, inputs); i++) {
                    float *one = sent + (i64)p * inputs + i, *other = tile + (i64)i * width + p - o;
                    if (to_tiles)
                        *other = *one;
                    else
                        *one = *other;
                }
    }
}

/* Copy a model between what is sent and tiles: of each layer its weights, and then its bias. */
static void repack_all(const Layer *layers, int depth, float *sent, float *tiles, int to_tiles)
{
    for (const Layer *l = layers; l < layers + depth; l++) {
        repack(l->inputs, l->outputs, l->padded, sent + l->weight, tiles, to_tiles);
        tiles += (i64)l->inputs * l->padded;
        if (l->bias >= 0 && to_tiles)
            memcpy(tiles, sent + l->bias, sizeof(float) * l->outputs);
        else if (l->bias >= 0)
            memcpy(sent + l->bias, tiles, sizeof(float) * l->outputs);
        tiles += l->padded;
    }
}

/* below[b][i] = sum_o slope[b][o] weight[i][o] where the layer below let something through */
static void backward(const Layer *l, int batch, const float *const *slope, const float *weight,
                     const float *given, float *below, float *turned, const float *zeros)
{
    int row = whole(l->inputs);
    for (int o = 0; o < l->outputs; o++) { /* tiles of inputs, in a tile outputs first */
        int first = o / TILE * TILE, width = least(TILE, l->padded - first);
        const float *own = weight + (i64)first * l->inputs + o - first;
        for (int tile = 0; tile < l->inputs; tile += TILE) {
            int wide = least(TILE, row - tile);
            float *into = turned + (i64)tile * l->outputs + (i64)o * wide;
            for (int i = 0; i < least(wide, l->inputs - tile); i++)
                into[i] = own[(i64)(tile + i) * width];
        }
    }
    forward(batch, slope, l->outputs, l->outputs, turned, zeros, 0, below, row);
    for (i64 cell = 0; cell < (i64)batch * row; cell++)
        below[cell] = given[cell] <= 0 ? 0 : below[cell];
}

/* exp of numbers up to 0: a power of two times the Taylor series of the rest of the exponent. */
INLINE vec exp_of(vec x)
{
    ivec low = x < -87.0f;
    x = (vec)(((ivec)all(-87.0f) & low) | ((ivec)x & ~low));
    vec power = (x * 1.44269504f + 12582912.0f) - 12582912.0f; /* 1.5 * 2^23: to a whole number */
    vec rest = (x - power * 0.693359375f) + power * 2.12194440e-4f; /* ln 2 in two parts */
    vec sum = all(1.0f / 5040);
    sum = sum * rest + 1.0f / 720;
    sum = sum * rest + 1.0f / 120;
    sum = sum * rest + 1.0f / 24;
    sum = sum * rest + 1.0f / 6;
    sum = sum * rest + 0.5f;
    sum = sum * rest + 1.0f;
    sum = sum * rest + 1.0f;
    ivec exponent = (__builtin_convertvector(power, ivec) + 127) << 23;
    return (vec)((ivec)(sum * (vec)exponent) & ~low);
}

/* Return the cross-entropy, and turn scores into its slopes times the learning rate.

   chance, if wanted, takes the mean of what the loss would be at the other labels. */
static float cross_entropy(const Layer *last, float *scores, i64 label, float rate, float *chance)
{
    float most = scores[0], own = scores[label], sum = 0, total = 0;
    for (int o = 1; o < last->outputs; o++)
        most = scores[o] > most ? scores[o] : most;
    for (int o = 0; chance && o < last->outputs; o++)
        total += most - scores[o];
    for (int o = last->outputs; o < last->padded; o++)
        scores[o] = -INFINITY;
    for (int o = 0; o < last->padded; o += LANES) {
        vec share = exp_of(*(vec *)(scores + o) - most);
        *(vec *)(scores + o) = share;
        for (int v = 0; v < LANES; v++)
            sum += share[v];
    }
    for (int o = 0; o < last->outputs; o++)
        scores[o] *= rate / sum;
    for (int o = last->outputs; o < last->padded; o++)
        scores[o] = 0;
    scores[label] -= rate;
    float loss = logf(sum) - (own - most);
    if (chance)
        *chance = (total + last->outputs * logf(sum) - loss) / (last->outputs > 1 ? last->outputs - 1 : 1);
    return loss;
}

typedef struct {
    const Layer *layers;
    int depth, batch, classify;
    const float *x;
    const void *targets;
    i64 numbers;                                 /* of a model in tiles */
    float *memory;                               /* begins with the received model */
    float *model, *acted, *slopes, *turned, *zeros; /* the client's own, and room for a batch */
    const float **rows;                          /* of each layer's inputs, and of the outputs */
} Client;

/* Go on from the outputs of the first layer, in c->acted; return the rows of the last one's. */
static const float **through(const Client *c, int count)
{
    const Layer *l = c->layers, *last = l + c->depth - 1;
    const float **given = c->rows + c->batch;
    float *weight = c->model, *into = c->acted;
    for (int b = 0; b < count; b++)
        given[b] = into + (i64)b * l->padded;
    for (; l < last; l++, given += c->batch) {
        weight += (i64)(l->inputs + 1) * l->padded;
        for (i64 cell = 0; cell < (i64)count * l->padded; cell++)
            into[cell] = into[cell] < 0 ? 0 : into[cell];
        into += (i64)c->batch * l->padded;
        i64 size = (i64)l[1].inputs * l[1].padded;
        forward(count, given, l[1].inputs, l[1].inputs, weight, weight + size, 0, into, l[1].padded);
        for (int b = 0; b < count; b++)
            given[c->batch + b] = into + (i64)b * l[1].padded;
    }
    return given;
}

/* Pass some rows of x through all layers; return the rows of the outputs. */
static const float **outputs_of(const Client *c, const i64 *rows, i64 start, int count)
{
    const Layer *l = c->layers;
    const float *bias = c->model + (i64)l->inputs * l->padded;
    for (int b = 0; b < count; b++)
        c->rows[b] = c->x + (start + rows[b]) * l->inputs;
    forward(count, c->rows, l->inputs, l->inputs, c->model, bias, 0, c->acted, l->padded);
    return through(c, count);
}

/* Update all layers but the first by the slopes at the outputs; return those of the first's. */
static const float *back(const Client *c, const float **given, int count)
{
    float *weight = c->model, *below = c->slopes;
    for (const Layer *l = c->layers; l < c->layers + c->depth; l++)
        weight += (i64)(l->inputs + 1) * l->padded;
    for (const Layer *l = c->layers + c->depth - 1; l > c->layers; l--, given -= c->batch) {
        weight -= (i64)(l->inputs + 1) * l->padded;
        const float *slope = given[0]; /* given: the slopes at this layer's outputs */
        const float **inputs = given - c->batch;
        backward(l, count, given, weight, inputs[0], below, c->turned, c->zeros);
        float *bias = l->bias < 0 ? NULL : weight + (i64)l->inputs * l->padded;
        update(count, inputs, l->inputs, slope, l->padded, weight, bias);
        for (int b = 0; b < count; b++)
            inputs[b] = below + (i64)b * whole(l->inputs);
        below += (i64)c->batch * whole(l->inputs);
    }
    return given[0];
}

/* Turn an example's outputs into slopes times a rate; told takes what is said of it, width numbers:
   its loss, of classes its chance loss, else its output and target. Return 0 for no such class. */
static int judge(const Client *c, float *outputs, i64 row, float rate, float *told, int width)
{
    if (!c->classify) {
        float target = ((const float *)c->targets)[row], error = outputs[0] - target;
        told[0] = error * error;
        if (width > 2) {
            told[1] = outputs[0];
            told[2] = target;
        }
        outputs[0] = 2 * rate * error;
        return 1;
    }
    const Layer *last = c->layers + c->depth - 1;
    i64 label = ((const i64 *)c->targets)[row];
    if (label < 0 || label >= last->outputs)
        return 0;
    told[0] = cross_entropy(last, outputs, label, rate, width > 1 ? told + 1 : NULL);
    return 1;
}

/* Take one step on some rows of x; return 0 where a label is of no class.

   first, if wanted, takes [batch][width] of what is said of the examples, see judge. */
static int step(const Client *c, const i64 *rows, i64 start, int count, float lr, float *losses,
                float *first, int width)
{
    const float **outputs = outputs_of(c, rows, start, count);
    float told[3];
    for (int b = 0; b < count; b++) {
        float *into = first ? first + (i64)b * width : told;
        if (!judge(c, (float *)outputs[b], start + rows[b], lr / count, into, first ? width : 1))
            return 0;
        losses[b] = into[0];
    }
    const float *slope = back(c, outputs, count);
    const Layer *l = c->layers;
    float *bias = l->bias < 0 ? NULL : c->model + (i64)l->inputs * l->padded;
    update(count, c->rows, l->inputs, slope, l->padded, c->model, bias);
    return 1;
}

/* Make room for a model in tiles and a batch; return 0 where memory is lacking. */
static int make(Client *c, const Layer *layers, int depth, int batch)
{
    i64 model = 0, cells = 0, turned = 1, widest = 1;
    for (const Layer *l = layers; l < layers + depth; l++) {
        i64 square = (i64)l->outputs * whole(l->inputs);
        model += (i64)(l->inputs + 1) * l->padded;
        cells += (i64)batch * (l->padded + (l > layers ? whole(l->inputs) : 0));
        widest = l->padded > widest ? l->padded : widest;
        widest = l > layers && whole(l->inputs) > widest ? whole(l->inputs) : widest;
        turned = l > layers && square > turned ? square : turned;
    }
    c->layers = layers;
    c->depth = depth;
    c->batch = batch;
    c->numbers = model;
    c->memory = calloc(2 * model + cells + turned + widest, sizeof(float));
    c->rows = malloc(sizeof(float *) * batch * (depth + 1));
    c->model = c->memory + model;
    c->acted = c->model + model;
    c->slopes = c->acted;
    for (const Layer *l = layers; l < layers + depth; l++)
        c->slopes += (i64)batch * l->padded;
    c->turned = c->acted + cells;
    c->zeros = c->turned + turned;
    return c->memory && c->rows;
}

static void end(Client *c)
{
    free(c->memory);
    free(c->rows);
}

/* Train some clients, each from the received model; see fedrms/engines/native_training.py.

   Returns 0; 1 where memory is lacking; 2 where a label is of no class. */
int train_clients(const Layer *layers, int depth, int classify, float *received,
                  const float *x, const void *targets, const i64 *rows, const uint8_t *present,
                  i64 cohort, int batch, const i64 *steps, const i64 *starts, const float *lr,
                  const i64 *clients, i64 count, float *stack, i64 row, float *losses,
                  float *first, int width)
{
    Client c = {.classify = classify, .x = x, .targets = targets};
    int wrong = !make(&c, layers, depth, batch);
    if (!wrong)
        repack_all(layers, depth, received, c.memory, 1);
    for (i64 at = 0; at < count && !wrong; at++) {
        i64 k = clients[at];
        memcpy(c.model, c.memory, sizeof(float) * c.numbers);
        for (i64 t = 0; t < steps[k] && !wrong; t++) {
            i64 cell = (t * cohort + k) * batch;
            float *scored = first && t == 0 ? first + k * batch * width : NULL;
            int there = 0;
            while (there < batch && present[cell + there])
                there++;
            if (there && !step(&c, rows + cell, starts[k], there, lr[k], losses + cell, scored, width))
                wrong = 2;
        }
        repack_all(layers, depth, stack + k * row, c.model, 0);
    }
    end(&c);
    return wrong;
}

/* What a client takes whose first layer is trained by inner products of its examples. */
typedef struct {
    i64 examples, visits; /* how many it has, and visits to them in all its steps */
    float *memory;
    float *answers;       /* [examples][outputs] of the received first layer, without its bias */
    float *slopes;        /* [visits][outputs] at its outputs so far, times the learning rate */
    float *falling;       /* minus the same, in tiles */
    float *alike;         /* [batch][visits] inner products with the examples visited so far */
    const float **rows;
    i64 *visited;
} Dual;

enum { TOGETHER = 64 }; /* examples in a pass that takes no step */

static int make_dual(Dual *d, const Client *c)
{
    i64 row = c->layers->padded, batch = c->batch > TOGETHER ? c->batch : TOGETHER;
    d->memory = malloc(sizeof(float) * ((d->examples + 2 * d->visits) * row + batch * d->visits));
    d->answers = d->memory;
    d->slopes = d->answers + d->examples * row;
    d->falling = d->slopes + d->visits * row;
    d->alike = d->falling + d->visits * row;
    d->rows = malloc(sizeof(float *) * batch);
    d->visited = malloc(sizeof(i64) * (d->visits + 1));
    return d->memory && d->rows && d->visited;
}

static void end_dual(Dual *d)
{
    free(d->memory);
    free(d->rows);
    free(d->visited);
}

/* Lay an answer of the received first layer and the bias of today where outputs are read. */
static void lay(const Client *c, const Dual *d, int place, i64 example)
{
    const Layer *l = c->layers;
    const float *bias = c->model + (i64)l->inputs * l->padded;
    for (int o = 0; o < l->padded; o++)
        c->acted[(i64)place * l->padded + o] = d->answers[example * l->padded + o] + bias[o];
}

/* Answer all examples by the received first layer; told, if wanted, takes what judge says of them. */
static int answer(const Client *c, Dual *d, i64 start, float *told, int width)
{
    const Layer *l = c->layers;
    for (i64 first = 0; first < d->examples; first += TOGETHER) {
        int some = d->examples - first < TOGETHER ? (int)(d->examples - first) : TOGETHER;
        for (int b = 0; b < some; b++)
            d->rows[b] = c->x + (start + first + b) * l->inputs;
        forward(some, d->rows, l->inputs, l->inputs, c->model, c->zeros, 0,
                d->answers + first * l->padded, l->padded);
        for (int at = 0; told && at < some; at += c->batch) {
            int count = least(c->batch, some - at);
            for (int b = 0; b < count; b++)
                lay(c, d, b, first + at + b);
            const float **outputs = through(c, count);
            for (int b = 0; b < count; b++) {
                i64 example = first + at + b;
                if (!judge(c, (float *)outputs[b], start + example, 0, told + example * width, width))
                    return 0;
            }
        }
    }
    return 1;
}

/* Take one step of which the first layer's weights are left for later; visits come behind seen. */
static int step_by_products(const Client *c, Dual *d, i64 seen, const i64 *rows, i64 start,
                            int count, float lr, const float *products, float *losses)
{
    const Layer *l = c->layers;
    for (int b = 0; b < count; b++) {
        const float *own = products + rows[b] * d->examples;
        float *alike = d->alike + b * d->visits;
        for (i64 j = 0; j < seen; j++)
            alike[j] = own[d->visited[j]];
        d->rows[b] = alike;
        d->visited[seen + b] = rows[b];
        lay(c, d, b, rows[b]);
    }
    forward(count, d->rows, (int)seen, (int)d->visits, d->falling, c->acted, l->padded, c->acted,
            l->padded);
    const float **outputs = through(c, count);
    for (int b = 0; b < count; b++)
        if (!judge(c, (float *)outputs[b], start + rows[b], lr / count, losses + b, 1))
            return 0;
    const float *slope = back(c, outputs, count);
    float *bias = l->bias < 0 ? NULL : c->model + (i64)l->inputs * l->padded;
    update(count, c->rows, 0, slope, l->padded, c->model, bias); /* the bias alone */
    memcpy(d->slopes + seen * l->padded, slope, sizeof(float) * count * l->padded);
    for (int o = 0; o < l->padded; o++) {
        int first = o / TILE * TILE, width = least(TILE, l->padded - first);
        float *tile = d->falling + first * d->visits + o - first;
        for (int b = 0; b < count; b++)
            tile[(seen + b) * width] = -slope[(i64)b * l->padded + o];
    }
    return 1;
}

/* Train some clients by inner products of their examples, from the received model.

   products [cohort] points to those of each, [examples][examples]; told [cohort], where a client's
   received losses are wanted, to [examples][width] for them. The rest is as for train_clients. */
int train_by_products(const Layer *layers, int depth, int classify, float *received, const float *x,
                      const void *targets, const i64 *rows, const uint8_t *present, i64 cohort,
                      int batch, const i64 *steps, const i64 *starts, const float *lr,
                      const i64 *clients, i64 count, float *stack, i64 row, float *losses,
                      const i64 *sizes, const float *const *products, float *const *told, int width)
{
    Client c = {.classify = classify, .x = x, .targets = targets};
    int wrong = !make(&c, layers, depth, batch);
    if (!wrong)
        repack_all(layers, depth, received, c.memory, 1);
    for (i64 at = 0; at < count && !wrong; at++) {
        i64 k = clients[at], seen = 0;
        Dual d = {.examples = sizes[k]};
        for (i64 t = 0; t < steps[k]; t++)
            for (int b = 0; b < batch; b++)
                d.visits += present[(t * cohort + k) * batch + b];
        memcpy(c.model, c.memory, sizeof(float) * c.numbers);
        wrong = !make_dual(&d, &c);
        if (!wrong && !answer(&c, &d, starts[k], told[k], width))
            wrong = 2;
        for (i64 t = 0; t < steps[k] && !wrong; t++) {
            i64 cell = (t * cohort + k) * batch;
            int there = 0;
            while (there < batch && present[cell + there])
                there++;
            if (there && !step_by_products(&c, &d, seen, rows + cell, starts[k], there, lr[k],
                                           products[k], losses + cell))
                wrong = 2;
            seen += there;
        }
        for (i64 first = 0; first < seen && !wrong; first += TOGETHER) {
            int some = seen - first < TOGETHER ? (int)(seen - first) : TOGETHER;
            for (int b = 0; b < some; b++)
                d.rows[b] = x + (starts[k] + d.visited[first + b]) * layers->inputs;
            update(some, d.rows, layers->inputs, d.slopes + first * layers->padded, layers->padded,
                   c.model, NULL);
        }
        end_dual(&d);
        repack_all(layers, depth, stack + k * row, c.model, 0);
    }
    end(&c);
    return wrong;
}

/* Score some rows of x at the received model: told takes [count][width], see judge. */
int score_rows(const Layer *layers, int depth, int classify, float *received, const float *x,
               const void *targets, const i64 *rows, i64 count, float *told, int width)
{
    Client c = {.classify = classify, .x = x, .targets = targets};
    int wrong = !make(&c, layers, depth, TOGETHER);
    if (!wrong)
        repack_all(layers, depth, received, c.model, 1);
    for (i64 first = 0; first < count && !wrong; first += TOGETHER) {
        int some = count - first < TOGETHER ? (int)(count - first) : TOGETHER;
        const float **outputs = outputs_of(&c, rows + first, 0, some);
        for (int b = 0; b < some && !wrong; b++)
            if (!judge(&c, (float *)outputs[b], rows[first + b], 0, told + (first + b) * width, width))
                wrong = 2;
    }
    end(&c);
    return wrong;
}
