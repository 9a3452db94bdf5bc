/* Selections: every condition against a plain reading of each row, gathering on first touch, threads, and no memory.
 */
#include "batch.h"
#include "threads.h"

#include "wfpsa/backend.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])
#define ROWS 4500 /* more than a block */

static struct wfpsa_columns *
make_batch(uint32_t version, uint64_t count)
{
    int created;
    struct wfpsa_failure failure;
    struct wfpsa_session *session;
    struct wfpsa_store *store = wfpsa_store_open(NULL, &created);
    CHECK(wfpsa_store_seed(store, count, 3, WFPSA_ODD));
    CHECK_EQUAL(wfpsa_session_open(&wfpsa_embedded_backend, wfpsa_store_name(store), 0, &session, &failure), WFPSA_OK);
    struct wfpsa_columns *batch = snapshot_all(session, version);
    CHECK_EQUAL(wfpsa_session_close(session, &failure), WFPSA_OK);
    wfpsa_session_free(session);
    wfpsa_store_release(store);
    return batch;
}

/* ---- the plain reading ---- */

static int
bits_agree(const uint8_t *a, const uint8_t *b, unsigned bits)
{
    for (unsigned i = 0; i < bits; i++) {
        if (((a[i / 8] ^ b[i / 8]) >> (7 - i % 8)) & 1) {
            return 0;
        }
    }
    return 1;
}

static int
in_net(const struct wfpsa_subnet *net, const uint8_t *address)
{
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF};
    int ipv4 = memcmp(address, mapped, 12) == 0;
    return ipv4 == (net->family == 4) && bits_agree(net->address, address, net->prefix_length + (ipv4 ? 96u : 0u));
}

static uint64_t
number_at(const uint8_t *cell, unsigned width)
{
    uint8_t u8;
    uint16_t u16;
    uint32_t u32;
    uint64_t u64;
    switch (width) {
    case 1:
        memcpy(&u8, cell, 1);
        return u8;
    case 2:
        memcpy(&u16, cell, 2);
        return u16;
    case 4:
        memcpy(&u32, cell, 4);
        return u32;
    default:
        memcpy(&u64, cell, 8);
        return u64;
    }
}

static int
is_value(const struct wfpsa_columns *home, const struct wfpsa_condition *condition, uint64_t at, const uint8_t *cell)
{
    const struct wfpsa_column_info *info = wfpsa_column_info(condition->column);
    if (info->kind == WFPSA_TEXT) {
        const struct wfpsa_text *text = (const struct wfpsa_text *)condition->values + at;
        return name_is(home, (uint32_t)number_at(cell, 4), text->text, (size_t)text->length);
    }
    if (info->width == 16) {
        return memcmp((const uint8_t *)condition->values + 16 * at, cell, 16) == 0;
    }
    return ((const uint64_t *)condition->values)[at] == number_at(cell, info->width);
}

static int
meets(const struct wfpsa_columns *batch, const struct wfpsa_condition *condition, uint64_t row)
{
    const struct wfpsa_column_info *info = wfpsa_column_info(condition->column);
    const struct wfpsa_columns *home = wfpsa_columns_home(batch, &row);
    const uint8_t *cell = (const uint8_t *)home->columns[condition->column] + row * info->width;
    if (is_absent(home, condition->column, row)) {
        return condition->test == WFPSA_ONE_OF && condition->or_absent;
    }
    if (condition->test == WFPSA_WITHIN) {
        uint64_t number = number_at(cell, info->width);
        return condition->low <= number && number <= condition->high;
    }
    for (uint64_t i = 0; i < condition->count; i++) {
        if (condition->test == WFPSA_IN_NETS ? in_net((const struct wfpsa_subnet *)condition->values + i, cell)
                                             : is_value(home, condition, i, cell)) {
            return 1;
        }
    }
    return 0;
}

/* Selects, and compares with the plain reading; the selection, for the caller to release. */
static struct wfpsa_columns *
check_selected(struct wfpsa_columns *from, uint64_t start, int64_t step, uint64_t count,
               const struct wfpsa_condition *conditions, uint32_t conditions_count)
{
    struct wfpsa_columns *selection = NULL;
    uint64_t found = 0;
    int same = 1;
    CHECK_EQUAL(wfpsa_select(from, start, step, count, conditions, conditions_count, &selection), WFPSA_OK);
    for (uint64_t i = 0; i < count; i++) {
        uint64_t row = (uint64_t)((int64_t)start + step * (int64_t)i);
        int wanted = 1;
        for (uint32_t j = 0; j < conditions_count; j++) {
            wanted = wanted && meets(from, &conditions[j], row);
        }
        if (wanted) {
            uint64_t home_row = row;
            wfpsa_columns_home(from, &home_row);
            same = same && found < selection->length && selection->selection->rows[found] == home_row;
            found++;
        }
    }
    CHECK_EQUAL(selection->length, found);
    CHECK(same);
    return selection;
}

static uint64_t
check_all_views(struct wfpsa_columns *batch, const struct wfpsa_condition *conditions, uint32_t count)
{
    uint64_t length = batch->length;
    struct wfpsa_columns *whole = check_selected(batch, 0, 1, length, conditions, count);
    uint64_t found = whole->length;
    wfpsa_columns_release(whole);
    wfpsa_columns_release(check_selected(batch, 5, 1, length - 9, conditions, count));
    wfpsa_columns_release(check_selected(batch, length - 1, -1, length, conditions, count));
    wfpsa_columns_release(check_selected(batch, 3, 7, (length - 3) / 7, conditions, count));
    wfpsa_columns_release(check_selected(batch, length, 1, 0, conditions, count));
    return found;
}

/* ---- conditions ---- */

static uint64_t random_state = 1;

static uint64_t
next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

#define VALUES_MAX 50

static uint64_t numbers[VALUES_MAX];
static uint8_t sixteens[VALUES_MAX][16];
static struct wfpsa_text texts[VALUES_MAX];

/* A condition for that many of the column's own values, absent ones and such as no cell has among them. */
static struct wfpsa_condition
one_of(const struct wfpsa_columns *batch, uint32_t column, uint64_t count, int or_absent)
{
    const struct wfpsa_column_info *info = wfpsa_column_info(column);
    struct wfpsa_condition condition = {column, WFPSA_ONE_OF, or_absent, count, numbers, 0, 0};
    for (uint64_t i = 0; i < count; i++) {
        uint64_t row = next_random() % batch->length;
        const uint8_t *cell = (const uint8_t *)batch->columns[column] + row * info->width;
        if (info->kind == WFPSA_TEXT) {
            uint32_t code = (uint32_t)number_at(cell, 4);
            texts[i].text = code ? batch->strings.text + batch->strings.offsets[code] : "nobody";
            texts[i].length = code ? (uint64_t)(batch->strings.offsets[code + 1] - batch->strings.offsets[code]) : 6;
            condition.values = texts;
        } else if (info->width == 16) {
            memcpy(sixteens[i], cell, 16);
            sixteens[i][15] ^= i % 5 == 4;
            condition.values = sixteens;
        } else {
            numbers[i] = i % 5 == 4 ? next_random() >> (i % 7 * 9) : number_at(cell, info->width);
        }
    }
    return condition;
}

static void
one_of_some_values_is_what_it_says_for_every_column(void)
{
    static const uint64_t counts[] = {0, 1, 2, 8, 9, VALUES_MAX};
    for (uint32_t version = 0; version <= 1; version++) {
        struct wfpsa_columns *batch = make_batch(version, ROWS);
        for (uint32_t column = 0; column < WFPSA_COLUMN_COUNT; column++) {
            for (size_t i = 0; batch->columns[column] && i < COUNT(counts); i++) {
                struct wfpsa_condition condition = one_of(batch, column, counts[i], (int)(i + column) % 2);
                wfpsa_columns_release(check_selected(batch, 0, 1, ROWS, &condition, 1));
            }
            if (batch->columns[column]) {
                struct wfpsa_condition condition = one_of(batch, column, 3, 1);
                check_all_views(batch, &condition, 1);
            }
        }
        wfpsa_columns_release(batch);
    }
}

static void
nothing_but_none_is_what_is_absent(void)
{
    struct wfpsa_columns *batch = make_batch(1, ROWS);
    for (uint32_t column = 0; column < WFPSA_COLUMN_COUNT; column++) {
        struct wfpsa_condition absent = {column, WFPSA_ONE_OF, 1, 0, numbers, 0, 0};
        uint64_t found = check_all_views(batch, &absent, 1), expected = 0;
        for (uint64_t row = 0; row < ROWS; row++) {
            expected += (uint64_t)is_absent(batch, column, row);
        }
        CHECK_EQUAL(found, expected);
        numbers[0] = 0; /* what absent cells hold is no value */
        numbers[1] = WFPSA_ENUM_ABSENT;
        struct wfpsa_condition raw = {column, WFPSA_ONE_OF, 0, 2, numbers, 0, 0};
        if (wfpsa_column_info(column)->width < 16 && wfpsa_column_info(column)->kind != WFPSA_TEXT) {
            check_all_views(batch, &raw, 1);
        }
    }
    wfpsa_columns_release(batch);
}

static void
within_a_range_both_ends_count(void)
{
    struct wfpsa_columns *batch = make_batch(1, ROWS);
    for (uint32_t column = 0; column < WFPSA_COLUMN_COUNT; column++) {
        const struct wfpsa_column_info *info = wfpsa_column_info(column);
        if (info->width == 16 || info->kind == WFPSA_TEXT) {
            continue;
        }
        for (int i = 0; i < 12; i++) {
            const uint8_t *cells = batch->columns[column];
            uint64_t a = number_at(cells + next_random() % ROWS * info->width, info->width);
            uint64_t b = number_at(cells + next_random() % ROWS * info->width, info->width);
            struct wfpsa_condition range = {column, WFPSA_WITHIN, 0, 0, NULL, a < b ? a : b, a < b ? b : a};
            range.low = i % 4 == 3 ? 0 : range.low;
            range.high = i % 3 == 2 ? UINT64_MAX : range.high;
            wfpsa_columns_release(check_selected(batch, 0, 1, ROWS, &range, 1));
        }
        struct wfpsa_condition everything = {column, WFPSA_WITHIN, 0, 0, NULL, 0, UINT64_MAX};
        check_all_views(batch, &everything, 1);
        struct wfpsa_condition reversed = {column, WFPSA_WITHIN, 0, 0, NULL, 9, 2};
        CHECK_EQUAL(check_all_views(batch, &reversed, 1), 0);
    }
    wfpsa_columns_release(batch);
}

/* A subnet around an address of the batch, or around another one. */
static struct wfpsa_subnet
net_around(const struct wfpsa_columns *batch, uint32_t column)
{
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF};
    struct wfpsa_subnet net;
    memcpy(net.address, (const uint8_t *)batch->columns[column] + next_random() % batch->length * 16, 16);
    net.family = memcmp(net.address, mapped, 12) == 0 ? 4 : 6;
    net.prefix_length = (uint8_t)(next_random() % (net.family == 4 ? 33 : 129));
    if (next_random() % 4 == 0 && net.family == 4) {
        net.address[12 + next_random() % 4] ^= 1;
    }
    for (unsigned bit = net.prefix_length + (net.family == 4 ? 96u : 0u); bit < 128; bit++) {
        net.address[bit / 8] &= (uint8_t)~(0x80 >> bit % 8);
    }
    return net;
}

static void
in_subnets_few_or_many_of_both_families(void)
{
    static const uint64_t counts[] = {0, 1, 1, 1, 1, 2, 3, 8, 9, 60};
    static struct wfpsa_subnet nets[60];
    struct wfpsa_columns *batch = make_batch(1, ROWS);
    for (int turn = 0; turn < 8; turn++) {
        for (size_t i = 0; i < COUNT(counts); i++) {
            uint32_t column = turn % 2 ? WFPSA_COLUMN_local_address : WFPSA_COLUMN_remote_address;
            struct wfpsa_condition condition = {column, WFPSA_IN_NETS, 0, counts[i], nets, 0, 0};
            for (uint64_t j = 0; j < counts[i]; j++) {
                nets[j] = net_around(batch, column);
            }
            check_all_views(batch, &condition, 1);
        }
    }
    wfpsa_columns_release(batch);
}

/* An address of 16 bytes for a test: all of one value, but the last ones. */
static void
put_address(struct wfpsa_columns *batch, uint64_t row, const char *hex)
{
    uint8_t *cell = (uint8_t *)batch->columns[WFPSA_COLUMN_remote_address] + row * 16;
    for (int i = 0; i < 16; i++) {
        unsigned byte;
        sscanf(hex + 2 * i, "%2x", &byte);
        cell[i] = (uint8_t)byte;
    }
}

static void
the_edges_of_subnets_and_of_what_is_shown_as_ipv4(void)
{
    static const char *const addresses[] = {
        "00000000000000000000000000000000", "00000000000000000000000000000001", "00000000000000000000fffeffffffff",
        "00000000000000000000ffff00000000", "00000000000000000000ffff09ffffff", "00000000000000000000ffff0a000000",
        "00000000000000000000ffff0affffff", "00000000000000000000ffff0b000000", "00000000000000000000ffffffffffff",
        "00000000000000000001000000000000", "00000000000000010000000000000000", "20010db7ffffffffffffffffffffffff",
        "20010db8000000000000000000000000", "20010db8ffffffffffffffffffffffff", "20010db9000000000000000000000000",
        "ffffffffffffffffffffffffffffffff",
    };
    static const struct wfpsa_subnet nets[] = {
        {4, 0, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF}},
        {4, 8, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 10}},
        {4, 32, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 255, 255, 255, 255}},
        {6, 0, {0}},
        {6, 64, {0}},
        {6, 80, {0}},
        {6, 95, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFE}},
        {6, 96, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF}}, /* nothing is shown so */
        {6, 127, {0}},
        {6, 128, {0}},
        {6, 32, {0x20, 1, 0x0D, 0xB8}},
        {6, 128, {0x20, 1, 0x0D, 0xB8}},
        {6, 1, {0x80}},
    };
    uint8_t wanted[WFPSA_COLUMN_COUNT] = {0};
    wanted[WFPSA_COLUMN_context_id] = wanted[WFPSA_COLUMN_remote_address] = 1;
    struct wfpsa_columns *batch = wfpsa_columns_new_rows(1, wanted, COUNT(addresses) + 1);
    memset(batch->columns[WFPSA_COLUMN_context_id], 0, 8 * batch->length);
    memset(batch->presence, WFPSA_PRESENT_OUTBOUND | WFPSA_PRESENT_ADDRESS, batch->length);
    for (uint64_t row = 0; row < COUNT(addresses); row++) {
        put_address(batch, row, addresses[row]);
    }
    put_address(batch, COUNT(addresses), addresses[0]);
    batch->presence[COUNT(addresses)] = WFPSA_PRESENT_OUTBOUND; /* :: because it is absent */
    for (size_t first = 0; first < COUNT(nets); first++) {
        for (uint64_t count = 1; count <= COUNT(nets) - first; count++) {
            struct wfpsa_condition condition = {
                WFPSA_COLUMN_remote_address, WFPSA_IN_NETS, 0, count, &nets[first], 0, 0};
            wfpsa_columns_release(check_selected(batch, 0, 1, batch->length, &condition, 1));
        }
    }
    wfpsa_columns_release(batch);
}

static void
names_of_the_same_text_are_all_found(void)
{
    static const int32_t offsets[] = {0, 0, 3, 6, 6, 9};
    static const struct wfpsa_text wanted_texts[] = {{"abc", 3}, {"", 0}, {"abcd", 4}};
    uint8_t wanted[WFPSA_COLUMN_COUNT] = {0};
    wanted[WFPSA_COLUMN_main_mode_target_in] = 1;
    struct wfpsa_columns *batch = wfpsa_columns_new_rows(1, wanted, 50);
    memset(batch->presence, WFPSA_PRESENT_INBOUND, 50);
    CHECK_EQUAL(wfpsa_columns_set_strings(batch, 4, offsets, "abcabcxyz"), WFPSA_OK);
    for (uint32_t row = 0; row < 50; row++) {
        ((uint32_t *)batch->columns[WFPSA_COLUMN_main_mode_target_in])[row] = row % 5;
    }
    struct wfpsa_condition condition = {WFPSA_COLUMN_main_mode_target_in, WFPSA_ONE_OF, 0, 1, wanted_texts, 0, 0};
    CHECK_EQUAL(check_all_views(batch, &condition, 1), 20);
    condition.count = 3;
    CHECK_EQUAL(check_all_views(batch, &condition, 1), 30);
    condition.or_absent = 1;
    CHECK_EQUAL(check_all_views(batch, &condition, 1), 40);
    condition.values = &wanted_texts[2];
    condition.count = 1;
    condition.or_absent = 0;
    CHECK_EQUAL(check_all_views(batch, &condition, 1), 0);
    wfpsa_columns_release(batch);
}

static struct wfpsa_condition
outbound(void)
{
    struct wfpsa_condition condition = {WFPSA_COLUMN_has_outbound, WFPSA_ONE_OF, 0, 1, NULL, 0, 0};
    static const uint64_t yes = 1;
    condition.values = &yes;
    return condition;
}

static void
conditions_combine_and_selections_chain(void)
{
    struct wfpsa_columns *batch = make_batch(1, ROWS);
    static const struct wfpsa_subnet ten = {4, 8, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 10}};
    static const uint64_t transforms[] = {1, 2, 4, 254};
    struct wfpsa_condition conditions[] = {
        outbound(),
        {WFPSA_COLUMN_remote_address, WFPSA_IN_NETS, 0, 1, &ten, 0, 0},
        {WFPSA_COLUMN_lifetime_seconds_out, WFPSA_WITHIN, 0, 0, NULL, 0, 4000},
        {WFPSA_COLUMN_transform_in, WFPSA_ONE_OF, 1, COUNT(transforms), transforms, 0, 0},
        {WFPSA_COLUMN_udp_local_port_in, WFPSA_ONE_OF, 1, 0, NULL, 0, 0},
        {WFPSA_COLUMN_context_id, WFPSA_WITHIN, 0, 0, NULL, 0, 5},
    };
    for (uint32_t count = 0; count <= COUNT(conditions); count++) {
        check_all_views(batch, conditions, count);
        check_all_views(batch, conditions + COUNT(conditions) - count, count);
    }
    struct wfpsa_columns *first = check_selected(batch, ROWS - 1, -1, ROWS, conditions, 2);
    CHECK(first->length > 100);
    for (uint32_t count = 0; count <= COUNT(conditions); count++) {
        check_all_views(first, conditions, count);
    }
    struct wfpsa_columns *second = check_selected(first, 1, 2, first->length / 2, &conditions[2], 1);
    CHECK(second->selection->parent == batch); /* they do not chain */
    CHECK(second->length > 10);
    wfpsa_columns_release(batch);
    wfpsa_columns_release(first);
    check_all_views(second, conditions, 3);
    wfpsa_columns_release(second);
}

/* ---- what a selection is ---- */

/* Every column of a selection is that of a copy of its rows, but for the codes of names. */
static void
check_gathered(const struct wfpsa_columns *selection)
{
    struct wfpsa_columns *taken = wfpsa_take(selection, 0, 1, NULL, selection->length);
    CHECK(taken->selection == NULL && is_sound(taken) && same_rows(selection, taken) && same_rows(taken, selection));
    for (uint32_t column = 0; column <= WFPSA_PRESENCE; column++) {
        const void *cells = NULL, *again = NULL, *own = NULL;
        CHECK_EQUAL(wfpsa_columns_cells(selection, column, &cells), WFPSA_OK);
        CHECK_EQUAL(wfpsa_columns_cells(selection, column, &again), WFPSA_OK);
        CHECK_EQUAL(wfpsa_columns_cells(taken, column, &own), WFPSA_OK);
        CHECK(cells == again && (cells != NULL) == (own != NULL));
        if (column == WFPSA_PRESENCE) {
            CHECK_BYTES(cells, own, selection->length);
            continue;
        }
        CHECK_EQUAL(wfpsa_columns_has(selection, column), cells != NULL);
        CHECK(own == taken->columns[column]);
        if (cells && wfpsa_column_info(column)->kind != WFPSA_TEXT) {
            CHECK_BYTES(cells, own, selection->length * wfpsa_column_info(column)->width);
        }
    }
    wfpsa_columns_release(taken);
}

static void
a_selection_gathers_what_it_is_asked_for_and_outlives_its_batch(void)
{
    for (uint32_t version = 0; version <= 1; version++) {
        struct wfpsa_columns *batch = make_batch(version, 500), *selection = NULL;
        struct wfpsa_condition condition = outbound();
        const void *cells;
        CHECK_EQUAL(wfpsa_select(batch, 499, -1, 500, &condition, 1, &selection), WFPSA_OK);
        wfpsa_columns_release(batch);
        uint64_t length = selection->length;
        CHECK(length > 100 && length < 500);
        CHECK_EQUAL(selection->version, version);
        CHECK_EQUAL(wfpsa_columns_bytes(selection, length), 4 * length);
        CHECK_EQUAL(wfpsa_columns_cells(selection, WFPSA_COLUMN_mm_sa_id_out, &cells), WFPSA_OK);
        CHECK_EQUAL(wfpsa_columns_bytes(selection, length), 12 * length);
        CHECK_EQUAL(wfpsa_columns_cells(selection, WFPSA_PRESENCE, &cells), WFPSA_OK);
        CHECK_EQUAL(wfpsa_columns_bytes(selection, 10), 130);
        check_gathered(selection);
        wfpsa_columns_release(selection);
    }
}

static void
a_selection_of_nothing_is_one_too(void)
{
    struct wfpsa_columns *batch = make_batch(1, 20), *selection = NULL;
    struct wfpsa_condition condition = {WFPSA_COLUMN_context_id, WFPSA_ONE_OF, 0, 0, NULL, 0, 0};
    CHECK_EQUAL(wfpsa_select(batch, 0, 1, 20, &condition, 1, &selection), WFPSA_OK);
    CHECK_EQUAL(selection->length, 0);
    check_gathered(selection);
    wfpsa_columns_release(selection);
    wfpsa_columns_release(batch);
}

static void
without_memory_it_says_so_and_can_be_asked_again(void)
{
    static const struct wfpsa_subnet ten = {4, 8, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 10}};
    static const uint64_t ports[] = {0, 500, 4500};
    static const uint64_t many[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    static const struct wfpsa_text text = {"nobody", 6};
    struct wfpsa_condition conditions[] = {
        outbound(),
        {WFPSA_COLUMN_remote_address, WFPSA_IN_NETS, 0, 1, &ten, 0, 0},
        {WFPSA_COLUMN_remote_port, WFPSA_ONE_OF, 0, COUNT(ports), ports, 0, 0},
        {WFPSA_COLUMN_qm_sa_id_in, WFPSA_ONE_OF, 1, COUNT(many), many, 0, 0},
        {WFPSA_COLUMN_main_mode_target_in, WFPSA_ONE_OF, 1, 1, &text, 0, 0},
    };
    struct wfpsa_columns *batch = make_batch(1, 50), *selection = NULL;
    struct wfpsa_live before, after;
    uint64_t failures = 0;
    wfpsa_embedded_live(&before);
    for (uint64_t nth = 1; !selection; nth++) {
        wfpsa_embedded_fail_allocation(nth);
        int status = wfpsa_select(batch, 0, 1, 50, conditions, COUNT(conditions), &selection);
        wfpsa_embedded_fail_allocation(0);
        CHECK_EQUAL(status, selection ? WFPSA_OK : WFPSA_NO_MEMORY);
        if (!selection) {
            failures++;
            wfpsa_embedded_live(&after);
            CHECK_EQUAL(after.allocations, before.allocations);
        }
    }
    CHECK(failures >= 10);
    wfpsa_columns_release(selection);
    selection = check_selected(batch, 0, 1, 50, conditions, COUNT(conditions) - 2);
    for (uint32_t column = 0; column <= WFPSA_PRESENCE; column++) {
        const void *cells = &failures;
        wfpsa_embedded_fail_allocation(1);
        CHECK_EQUAL(wfpsa_columns_cells(selection, column, &cells), WFPSA_NO_MEMORY);
        CHECK(cells == &failures);
        CHECK_EQUAL(wfpsa_columns_cells(selection, column, &cells), WFPSA_OK);
        wfpsa_embedded_fail_allocation(1);
        CHECK_EQUAL(wfpsa_columns_cells(selection, column, &cells), WFPSA_OK); /* gathered before */
        wfpsa_embedded_fail_allocation(0);
    }
    wfpsa_embedded_fail_allocation(1);
    CHECK(wfpsa_take(selection, 0, 1, NULL, selection->length) == NULL);
    wfpsa_embedded_fail_allocation(0);
    wfpsa_columns_release(selection);
    wfpsa_columns_release(batch);
}

struct reader {
    struct wfpsa_thread thread;
    struct wfpsa_columns *selection;
    const void *cells[WFPSA_PRESENCE + 1];
    uint64_t first, sum;
};

/* Reads all columns, each thread beginning at another one, and releases its share. */
static void
read_columns(void *argument)
{
    struct reader *reader = argument;
    for (uint32_t i = 0; i <= WFPSA_PRESENCE; i++) {
        uint32_t column = (uint32_t)((i + reader->first) % (WFPSA_PRESENCE + 1));
        if (wfpsa_columns_cells(reader->selection, column, &reader->cells[column]) == WFPSA_OK) {
            unsigned width = column == WFPSA_PRESENCE ? 1 : wfpsa_column_info(column)->width;
            const uint8_t *bytes = reader->cells[column];
            for (uint64_t at = 0; at < reader->selection->length * width; at++) {
                reader->sum += bytes[at];
            }
        }
        reader->sum += wfpsa_columns_bytes(reader->selection, 0);
    }
    wfpsa_columns_release(reader->selection);
}

static void
threads_touch_one_selection_at_once(void)
{
    static struct reader readers[8];
    struct wfpsa_columns *batch = make_batch(1, 2000);
    for (uint64_t turn = 0; turn < 5; turn++) {
        struct wfpsa_condition condition = outbound();
        struct wfpsa_columns *selection = check_selected(batch, 0, 1, 2000, &condition, 1);
        for (size_t i = 0; i < COUNT(readers); i++) {
            wfpsa_columns_retain(selection);
            readers[i].selection = selection;
            readers[i].first = turn % 2 ? 0 : i * 3;
            readers[i].sum = 0;
            thread_start(&readers[i].thread, read_columns, &readers[i]);
        }
        wfpsa_columns_release(selection);
        for (size_t i = 0; i < COUNT(readers); i++) {
            wfpsa_thread_join(&readers[i].thread);
            CHECK_EQUAL(readers[i].sum, readers[0].sum);
            CHECK_BYTES(readers[i].cells, readers[0].cells, sizeof readers[0].cells); /* all see the same arrays */
        }
    }
    wfpsa_columns_release(batch);
}

int
main(void)
{
    RUN(one_of_some_values_is_what_it_says_for_every_column);
    RUN(nothing_but_none_is_what_is_absent);
    RUN(within_a_range_both_ends_count);
    RUN(in_subnets_few_or_many_of_both_families);
    RUN(the_edges_of_subnets_and_of_what_is_shown_as_ipv4);
    RUN(names_of_the_same_text_are_all_found);
    RUN(conditions_combine_and_selections_chain);
    RUN(a_selection_gathers_what_it_is_asked_for_and_outlives_its_batch);
    RUN(a_selection_of_nothing_is_one_too);
    RUN(without_memory_it_says_so_and_can_be_asked_again);
    RUN(threads_touch_one_selection_at_once);
    return closing_line();
}
