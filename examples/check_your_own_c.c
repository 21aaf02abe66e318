/* Propagation of the coarse stage in plain C, its pull-back and the soft threshold, and how a
   program in any language is checked: it reads plain .npy files in one folder and writes .npy files
   to another.

       cc -std=c99 -O2 -Wall -Wextra -o check_your_own_c examples/check_your_own_c.c
       c2f-ref conformance --command './check_your_own_c {in} {out}' \
           --only propagate_coarse propagate_coarse_vjp soft_threshold

   Names of the files and exit codes are those of c2f_ref/conformance/README.md. It reads numbers of
   4 and 8 bytes, on a machine that stores the low byte first, as nearly all do, calculates in
   double and writes doubles. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    int n_axes;
    size_t shape[2]; /* 1 where there is no such axis */
    double *values;  /* row after row */
} Array;

typedef struct {
    size_t n_rows;
    Array data, indices, indptr;
} Csr;

enum { BROKEN = 1, REFUSED = 3, MISSING = 4 };

static const char *in_folder, *out_folder;

static void stop_with(int code, const char *reason, const char *name)
{
    fprintf(stderr, "%s: %s\n", reason, name);
    exit(code);
}

static void stop(const char *reason, const char *name)
{
    stop_with(BROKEN, reason, name);
}

static double *zeros(size_t n_values)
{
    double *values = calloc(n_values ? n_values : 1, sizeof *values);
    if (!values)
        stop("no memory for", "an array");
    return values;
}

static FILE *open_file(const char *folder, const char *name, const char *ending, const char *mode)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s%s", folder, name, ending);
    FILE *file = fopen(path, mode);
    if (!file)
        stop("cannot open", path);
    return file;
}

/* The array in in_folder/name.npy, version 1 of the format: a magic string, the length of the
   header, the header, the values. */
static Array read_array(const char *name)
{
    FILE *file = open_file(in_folder, name, ".npy", "rb");
    unsigned char start[10];
    char header[1024] = "", kind = 0;
    int size = 0;
    if (fread(start, 1, 10, file) != 10 || memcmp(start, "\x93NUMPY\x01", 7) != 0)
        stop("not an .npy file of version 1", name);
    size_t length = start[8] + 256u * start[9];
    if (length >= sizeof header || fread(header, 1, length, file) != length)
        stop("the header is too long or cut off", name);
    const char *type = strstr(header, "'descr': '<"), *shape = strstr(header, "'shape': (");
    if (!type || !shape || !strstr(header, "'fortran_order': False"))
        stop("not a plain array in C order, low byte first", name);
    sscanf(type, "'descr': '<%c%d", &kind, &size);

    Array array = {0, {1, 1}, NULL};
    char *end;
    for (const char *text = strchr(shape, '(') + 1; array.n_axes < 2; text = end + 1) {
        size_t extent = strtoul(text, &end, 10);
        if (end == text)
            break;
        array.shape[array.n_axes++] = extent;
        if (*end != ',')
            break;
    }
    size_t n_values = array.shape[0] * array.shape[1];
    array.values = zeros(n_values);
    for (size_t i = 0; i < n_values; i++) {
        union { double f8; float f4; int64_t i8; int32_t i4; } value;
        if ((size != 4 && size != 8) || fread(&value, (size_t)size, 1, file) != 1)
            stop("not numbers of 4 or 8 bytes, or too few", name);
        if (kind == 'f')
            array.values[i] = size == 8 ? value.f8 : value.f4;
        else
            array.values[i] = size == 8 ? (double)value.i8 : value.i4;
    }
    fclose(file);
    return array;
}

static double read_number(const char *name)
{
    return read_array(name).values[0];
}

static Csr read_csr(const char *name)
{
    char part[256];
    Array arrays[4];
    const char *endings[] = {"data", "indices", "indptr", "shape"};
    for (int i = 0; i < 4; i++) {
        snprintf(part, sizeof part, "%s.%s", name, endings[i]);
        arrays[i] = read_array(part);
    }
    Csr matrix = {(size_t)arrays[3].values[0], arrays[0], arrays[1], arrays[2]};
    return matrix;
}

static void write_table(const char *name, size_t n_rows, size_t n_columns, const double *values)
{
    char header[118] = "";
    FILE *file = open_file(out_folder, name, ".npy", "wb");
    snprintf(header, sizeof header,
             "{'descr': '<f8', 'fortran_order': False, 'shape': (%zu, %zu), }", n_rows, n_columns);
    /* 0x76 = 118: with these 10 bytes, values start at a multiple of 64. */
    fwrite("\x93NUMPY\x01\x00\x76\x00", 1, 10, file);
    fprintf(file, "%-117s\n", header);
    size_t n_values = n_rows * n_columns;
    if (fwrite(values, sizeof *values, n_values, file) != n_values || fclose(file) != 0)
        stop("cannot write", name);
}

/* out += matrix * in, or out += transposed matrix * in; tables of n_columns columns. */
static void add_product(const Csr *matrix, int transposed, size_t n_columns, const double *in,
                        double *out)
{
    const double *starts = matrix->indptr.values;
    for (size_t row = 0; row < matrix->n_rows; row++)
        for (size_t p = (size_t)starts[row]; p < (size_t)starts[row + 1]; p++) {
            size_t column = (size_t)matrix->indices.values[p];
            size_t from = transposed ? row : column, to = transposed ? column : row;
            for (size_t d = 0; d < n_columns; d++)
                out[to * n_columns + d] += matrix->data.values[p] * in[from * n_columns + d];
        }
}

/* H = (X + G X + ... + G^L X) / (L + 1), by Horner's rule: X + G (X + G (X + ...)); the pull-back
   has G^T for G. */
static void propagate_coarse(int transposed, const char *entities_name, const char *coarse_name)
{
    Csr graph = read_csr("graph");
    Array entities = read_array(entities_name), coarse = read_array(coarse_name);
    int n_layers = (int)read_number("n_layers");
    size_t n_columns = entities.shape[1], cut = entities.shape[0] * n_columns;
    size_t size = cut + coarse.shape[0] * n_columns;
    if (coarse.shape[1] != n_columns || graph.n_rows * n_columns != size)
        stop_with(REFUSED, "the tables do not fit", "graph");
    double *nodes = zeros(size), *total = zeros(size);
    memcpy(nodes, entities.values, cut * sizeof *nodes);
    memcpy(nodes + cut, coarse.values, (size - cut) * sizeof *nodes);
    memcpy(total, nodes, size * sizeof *nodes);
    for (int layer = 0; layer < n_layers; layer++) {
        double *next = zeros(size);
        memcpy(next, nodes, size * sizeof *nodes);
        add_product(&graph, transposed, n_columns, total, next);
        free(total);
        total = next;
    }
    for (size_t i = 0; i < size; i++)
        total[i] /= n_layers + 1;
    write_table(entities_name, entities.shape[0], n_columns, total);
    write_table(coarse_name, coarse.shape[0], n_columns, total + cut);
}

/* sign(x) max(|x| - tau, 0) */
static void soft_threshold(void)
{
    Array table = read_array("table");
    double threshold = read_number("threshold");
    for (size_t i = 0; i < table.shape[0] * table.shape[1]; i++) {
        double x = table.values[i];
        table.values[i] = x > threshold ? x - threshold : x < -threshold ? x + threshold : 0.0;
    }
    write_table("result", table.shape[0], table.shape[1], table.values);
}

int main(int n_arguments, char **arguments)
{
    char operation[64] = "";
    if (n_arguments != 3)
        stop("usage", "check_your_own_c IN OUT");
    in_folder = arguments[1];
    out_folder = arguments[2];
    FILE *file = open_file(in_folder, "operation", "", "r");
    if (fscanf(file, "%63s", operation) != 1)
        stop("no operation in", in_folder);
    if (strcmp(operation, "propagate_coarse") == 0)
        propagate_coarse(0, "entities", "coarse");
    else if (strcmp(operation, "propagate_coarse_vjp") == 0)
        propagate_coarse(1, "grad_entities", "grad_coarse");
    else if (strcmp(operation, "soft_threshold") == 0)
        soft_threshold();
    else
        stop_with(MISSING, "not one of my operations", operation);
    return 0;
}
