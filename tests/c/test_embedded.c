/* The embedded engine through the OS's own calls: sessions, stores, enumerations, templates, expiry, rights, faults.
 */
#include "scene.h"

/* The first row from `from` on with these two sides, or the batch's length. */
static uint64_t
find_sides(const struct wfpsa_columns *batch, uint64_t from, int in, int out)
{
    uint64_t row = from;
    while (row < batch->length && !(U8(batch, has_inbound, row) == in && U8(batch, has_outbound, row) == out)) {
        row++;
    }
    return row;
}

/* ---- sessions and stores ---- */

static void
opening_a_session_refuses_what_the_os_refuses(void)
{
    static const WCHAR nowhere[] = {'n', 'o', 'w', 'h', 'e', 'r', 'e', 0};
    HANDLE engine = &engine;
    FWPM_SESSION0 session;
    memset(&session, 0, sizeof session);
    CHECK_EQUAL(os->engine_open(NULL, RPC_C_AUTHN_DEFAULT, NULL, NULL, NULL), (DWORD)FWP_E_NULL_POINTER);
    CHECK_EQUAL(os->engine_open(NULL, 9, NULL, NULL, &engine), RPC_S_UNKNOWN_AUTHN_SERVICE);
    CHECK(engine == NULL);
    session.flags = 2;
    CHECK_EQUAL(os->engine_open(NULL, RPC_C_AUTHN_WINNT, NULL, &session, &engine), (DWORD)FWP_E_INVALID_FLAGS);
    CHECK_EQUAL(os->engine_open(nowhere, RPC_C_AUTHN_WINNT, NULL, NULL, &engine), RPC_S_SERVER_UNAVAILABLE);
    CHECK(engine == NULL);
    CHECK_EQUAL(os->engine_close(NULL), (DWORD)FWP_E_NULL_POINTER);
}

static void
a_session_without_a_name_opens_the_default_store(void)
{
    int created;
    HANDLE first, second;
    CHECK_EQUAL(os->engine_open(NULL, RPC_C_AUTHN_WINNT, NULL, NULL, &first), 0);
    struct wfpsa_store *store = wfpsa_store_open(u"default", &created);
    CHECK(!created);
    CHECK(wfpsa_store_seed(store, 5, 1, 0));
    wfpsa_store_release(store);
    CHECK_EQUAL(os->engine_open(NULL, RPC_C_AUTHN_DEFAULT, NULL, NULL, &second), 0);
    close_engine(first);
    struct wfpsa_columns *batch = everything(second, 1);
    CHECK_EQUAL(batch->length, 5); /* still the same: a session holds its store */
    wfpsa_columns_release(batch);
    close_engine(second);
    CHECK_EQUAL(os->engine_open(NULL, RPC_C_AUTHN_DEFAULT, NULL, NULL, &second), 0);
    batch = everything(second, 1);
    CHECK_EQUAL(batch->length, 0); /* a new one: nobody held it */
    wfpsa_columns_release(batch);
    close_engine(second);
}

static void
stores_are_found_by_name_and_unnamed_ones_are_distinct(void)
{
    static uint16_t longest[WFPSA_STORE_NAME_MAX + 1];
    int created;
    struct wfpsa_store *lab = wfpsa_store_open(u"lab", &created);
    CHECK(created);
    struct wfpsa_store *again = wfpsa_store_open(u"lab", &created);
    CHECK(again == lab && !created);
    struct wfpsa_store *other = wfpsa_store_open(u"la", &created);
    CHECK(other != lab && created);
    struct wfpsa_store *unnamed = wfpsa_store_open(NULL, &created), *second = wfpsa_store_open(NULL, &created);
    CHECK(created && unnamed != second && unnamed != lab);
    CHECK(memcmp(wfpsa_store_name(lab), u"lab", 8) == 0);
    CHECK(wfpsa_store_name(unnamed)[0] != 0);
    struct wfpsa_store *named = wfpsa_store_open(wfpsa_store_name(second), &created);
    CHECK(named == second && !created);
    for (int i = 0; i < WFPSA_STORE_NAME_MAX; i++) {
        longest[i] = (uint16_t)(0x4E00 + i);
    }
    struct wfpsa_store *long_named = wfpsa_store_open(longest, &created);
    CHECK(created && memcmp(wfpsa_store_name(long_named), longest, sizeof longest) == 0);

    HANDLE engine = open_engine(lab);
    wfpsa_store_release(lab);
    wfpsa_store_release(again);
    again = wfpsa_store_open(u"lab", &created);
    CHECK(!created); /* the session held it */
    wfpsa_store_release(again);
    close_engine(engine);
    again = wfpsa_store_open(u"lab", &created);
    CHECK(created);
    wfpsa_store_release(again);
    wfpsa_store_release(other);
    wfpsa_store_release(unnamed);
    wfpsa_store_release(second);
    wfpsa_store_release(named);
    wfpsa_store_release(long_named);
}

static void
bad_handles_are_refused_by_every_call(void)
{
    static uint64_t not_a_handle[64];
    struct wfpsa_store *store = make_store(3, 0);
    HANDLE engine = open_engine(store), other = open_engine(store), handle = begin(engine, NULL), made;
    HANDLE bad[2] = {NULL, not_a_handle};
    DWORD refusals[2] = {(DWORD)FWP_E_NULL_POINTER, ERROR_INVALID_HANDLE};
    IPSEC_SA_CONTEXT0 **page0 = NULL, *found0 = NULL;
    IPSEC_SA_CONTEXT1 **page1 = NULL, *found1 = NULL;
    UINT32 returned;
    for (int i = 0; i < 2; i++) {
        CHECK_EQUAL(os->engine_close(bad[i]), refusals[i]);
        CHECK_EQUAL(os->sa_context_create_enum_handle(bad[i], NULL, &made), refusals[i]);
        CHECK_EQUAL(os->sa_context_enum0(bad[i], handle, 1, &page0, &returned), refusals[i]);
        CHECK_EQUAL(os->sa_context_enum1(bad[i], handle, 1, &page1, &returned), refusals[i]);
        CHECK_EQUAL(os->sa_context_destroy_enum_handle(bad[i], handle), refusals[i]);
        CHECK_EQUAL(os->sa_context_get_by_id0(bad[i], 1, &found0), refusals[i]);
        CHECK_EQUAL(os->sa_context_get_by_id1(bad[i], 1, &found1), refusals[i]);
        CHECK_EQUAL(os->sa_context_expire(bad[i], 1), refusals[i]);
        CHECK_EQUAL(os->sa_context_delete_by_id(bad[i], 1), refusals[i]);
        CHECK_EQUAL(os->sa_context_enum0(engine, bad[i], 1, &page0, &returned), refusals[i]);
        CHECK_EQUAL(os->sa_context_enum1(engine, bad[i], 1, &page1, &returned), refusals[i]);
        CHECK_EQUAL(os->sa_context_destroy_enum_handle(engine, bad[i]), refusals[i]);
    }
    CHECK_EQUAL(os->sa_context_enum1(other, handle, 1, &page1, &returned), (DWORD)FWP_E_WRONG_SESSION);
    CHECK_EQUAL(os->sa_context_destroy_enum_handle(other, handle), (DWORD)FWP_E_WRONG_SESSION);
    CHECK_EQUAL(os->sa_context_create_enum_handle(engine, NULL, NULL), (DWORD)FWP_E_NULL_POINTER);
    CHECK_EQUAL(os->sa_context_enum0(engine, handle, 1, NULL, &returned), (DWORD)FWP_E_NULL_POINTER);
    CHECK_EQUAL(os->sa_context_enum0(engine, handle, 1, &page0, NULL), (DWORD)FWP_E_NULL_POINTER);
    CHECK_EQUAL(os->sa_context_enum1(engine, handle, 1, NULL, &returned), (DWORD)FWP_E_NULL_POINTER);
    CHECK_EQUAL(os->sa_context_enum1(engine, handle, 1, &page1, NULL), (DWORD)FWP_E_NULL_POINTER);
    CHECK_EQUAL(os->sa_context_get_by_id0(engine, 1, NULL), (DWORD)FWP_E_NULL_POINTER);
    CHECK_EQUAL(os->sa_context_get_by_id1(engine, 1, NULL), (DWORD)FWP_E_NULL_POINTER);
    CHECK(page0 == NULL && page1 == NULL && found0 == NULL && found1 == NULL);
    struct wfpsa_columns *batch = rest_of(engine, handle, 1, 2); /* none of it cost the enumeration anything */
    CHECK_EQUAL(batch->length, 3);
    wfpsa_columns_release(batch);
    end(engine, handle);
    close_engine(engine);
    close_engine(other);
    wfpsa_store_release(store);
    wfpsa_embedded_forget_misuses(); /* test_misuse.c looks at how they are counted */
}

static void
freeing_nothing_is_allowed(void)
{
    void *nothing = NULL;
    os->free_memory(NULL);
    os->free_memory(&nothing);
    CHECK(nothing == NULL);
}

static void
closing_a_session_ends_the_enumerations_it_left_open(void)
{
    struct wfpsa_store *store = make_store(100, 0);
    HANDLE engine = open_engine(store), other = open_engine(store), kept = begin(other, NULL);
    struct wfpsa_columns *batch = wfpsa_columns_new(1);
    for (int i = 0; i < 5; i++) {
        HANDLE handle = begin(engine, NULL);
        next_page(engine, handle, 10, batch);
        CHECK_EQUAL(os->sa_context_delete_by_id(engine, U64(batch, context_id, (uint64_t)i * 10 + (uint64_t)i)), 0);
    }
    CHECK_EQUAL(live_now().enum_handles, 6);
    close_engine(engine);
    CHECK_EQUAL(live_now().enum_handles, 1);
    wfpsa_columns_release(batch);
    batch = rest_of(other, kept, 1, 33);
    CHECK_EQUAL(batch->length, 100);
    wfpsa_columns_release(batch);
    close_engine(other);
    wfpsa_store_release(store);
}

static void
a_page_stands_alone_when_its_contexts_session_and_store_are_gone(void)
{
    struct wfpsa_store *store = make_store(200, 1);
    HANDLE engine = open_engine(store), handle = begin(engine, NULL);
    struct wfpsa_columns *before = everything(engine, 1), *after = wfpsa_columns_new(1);
    IPSEC_SA_CONTEXT1 **page = NULL;
    UINT32 returned;
    CHECK_EQUAL(os->sa_context_enum1(engine, handle, ALL, &page, &returned), 0);
    for (uint64_t row = 0; row < before->length; row++) {
        CHECK_EQUAL(os->sa_context_delete_by_id(engine, U64(before, context_id, row)), 0);
    }
    end(engine, handle);
    close_engine(engine);
    wfpsa_store_release(store);
    CHECK_EQUAL(wfpsa_columns_append1(after, page, returned, NULL), WFPSA_OK);
    os->free_memory((void **)&page);
    CHECK(same_rows(before, after));
    wfpsa_columns_release(before);
    wfpsa_columns_release(after);
}

/* ---- enumeration ---- */

static void
every_page_size_returns_everything_once_and_in_the_same_order(void)
{
    static const uint32_t sizes[] = {1, 7, 10, 99, 100, 101, 1000, 0x7FFFFFFF, ALL};
    struct wfpsa_store *store = make_store(100, 1);
    HANDLE engine = open_engine(store);
    for (uint32_t version = 0; version <= 1; version++) {
        struct wfpsa_columns *all = everything(engine, version);
        CHECK_EQUAL(all->length, 100);
        for (size_t i = 0; i < COUNT(sizes); i++) {
            HANDLE handle = begin(engine, NULL);
            struct wfpsa_columns *batch = wfpsa_columns_new(version);
            uint32_t size = sizes[i], whole = 100 / size, calls = 0, returned;
            CHECK_EQUAL(next_page(engine, handle, 0, batch), 0); /* nothing was asked for, nothing is lost */
            do {
                returned = next_page(engine, handle, size, batch);
                CHECK_EQUAL(returned, calls < whole ? size : 100 % size); /* short, and empty where none is left */
                calls++;
            } while (returned == size);
            CHECK_EQUAL(calls, whole + 1);
            CHECK_EQUAL(next_page(engine, handle, size, batch), 0); /* and so ever after */
            CHECK(same_rows(all, batch));
            end(engine, handle);
            wfpsa_columns_release(batch);
        }
        wfpsa_columns_release(all);
    }
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
an_empty_store_has_one_empty_page(void)
{
    int created;
    struct wfpsa_store *store = wfpsa_store_open(NULL, &created);
    HANDLE engine = open_engine(store), handle = begin(engine, NULL);
    for (uint32_t version = 0; version <= 1; version++) {
        struct wfpsa_columns *batch = wfpsa_columns_new(version);
        CHECK_EQUAL(next_page(engine, handle, ALL, batch), 0);
        wfpsa_columns_release(batch);
    }
    IPSEC_SA_CONTEXT1 *found;
    CHECK_EQUAL(os->sa_context_get_by_id1(engine, 1, &found), (DWORD)FWP_E_NOT_FOUND);
    CHECK_EQUAL(os->sa_context_expire(engine, 1), (DWORD)FWP_E_NOT_FOUND);
    CHECK_EQUAL(os->sa_context_delete_by_id(engine, 1), (DWORD)FWP_E_NOT_FOUND);
    end(engine, handle);
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
both_structure_versions_say_the_same(void)
{
    struct wfpsa_store *store = make_store(1000, 1);
    HANDLE engine = open_engine(store);
    struct wfpsa_columns *old = everything(engine, 0), *new = everything(engine, 1);
    CHECK(same_rows(old, new));
    HANDLE handle = begin(engine, NULL); /* one kind of handle serves both calls */
    struct wfpsa_columns *mixed[2] = {wfpsa_columns_new(0), wfpsa_columns_new(1)};
    for (uint64_t at = 0; at < 1000; at += 50) {
        uint32_t version = at / 50 % 2;
        uint64_t first = mixed[version]->length;
        CHECK_EQUAL(next_page(engine, handle, 50, mixed[version]), 50);
        for (uint64_t i = 0; i < 50; i++) {
            CHECK(wfpsa_rows_equal(new, at + i, mixed[version], first + i, NULL));
        }
    }
    end(engine, handle);
    wfpsa_columns_release(mixed[0]);
    wfpsa_columns_release(mixed[1]);
    wfpsa_columns_release(old);
    wfpsa_columns_release(new);
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
get_by_id_returns_what_the_enumeration_shows(void)
{
    struct wfpsa_store *store = make_store(300, 1);
    HANDLE engine = open_engine(store);
    for (uint32_t version = 0; version <= 1; version++) {
        struct wfpsa_columns *all = everything(engine, version);
        for (uint64_t row = 0; row < all->length; row++) {
            struct wfpsa_columns *one = get(engine, U64(all, context_id, row), version);
            CHECK(one && wfpsa_rows_equal(all, row, one, 0, NULL));
            wfpsa_columns_release(one);
        }
        wfpsa_columns_release(all);
        CHECK(get(engine, 0, version) == NULL);
        CHECK(get(engine, 1, version) == NULL);
        CHECK(get(engine, UINT64_MAX, version) == NULL);
    }
    close_engine(engine);
    wfpsa_store_release(store);
}

/* ---- templates ---- */

/* Whether the address of 16 bytes is of that IP version and begins with those bits. */
static int
within(const uint8_t *address, uint8_t address_version, uint8_t version, const uint8_t *prefix, unsigned bits)
{
    for (unsigned bit = 0; bit < bits; bit++) {
        if ((address[bit / 8] ^ prefix[bit / 8]) >> (7 - bit % 8) & 1) {
            return 0;
        }
    }
    return address_version == version;
}

static void
mapped(uint32_t host_order, uint8_t *address)
{
    memset(address, 0, 16);
    address[10] = address[11] = 0xFF;
    for (int i = 0; i < 4; i++) {
        address[12 + i] = (uint8_t)(host_order >> (24 - 8 * i));
    }
}

/* Compares what a template selects with a walk over everything. Rows whose directions disagree are left to the side
 * that a row shows; there may be more of them in the template's result. */
static void
check_template(HANDLE engine, const struct wfpsa_columns *all, const IPSEC_SA_CONTEXT_ENUM_TEMPLATE0 *wanted,
               int remote, uint8_t version, const uint8_t *prefix, unsigned bits, int *selected)
{
    HANDLE handle = begin(engine, wanted);
    struct wfpsa_columns *batch = rest_of(engine, handle, 1, 64);
    uint64_t at = 0;
    end(engine, handle);
    for (uint64_t row = 0; row < all->length; row++) {
        const uint8_t *address = remote ? BYTES16(all, remote_address, row) : BYTES16(all, local_address, row);
        int chosen = at < batch->length && U64(batch, context_id, at) == U64(all, context_id, row);
        int expected = within(address, U8(all, ip_version, row), version, prefix, bits);
        CHECK(chosen == expected || (chosen && U8(all, traffic_differs, row)));
        CHECK(!chosen || wfpsa_rows_equal(all, row, batch, at, NULL));
        at += (uint64_t)chosen;
    }
    CHECK_EQUAL(at, batch->length);
    *selected += (int)at;
    wfpsa_columns_release(batch);
}

static void
templates_of_all_five_types_select_by_either_address(void)
{
    static const unsigned v4_bits[] = {0, 1, 8, 12, 16, 24, 31, 32}, v6_bits[] = {0, 1, 7, 8, 32, 61, 64, 127, 128};
    struct wfpsa_store *store = make_store(500, 1);
    HANDLE engine = open_engine(store), handle;
    struct wfpsa_columns *all = everything(engine, 1), *batch;
    int selected[4] = {0};
    for (int remote = 0; remote <= 1; remote++) {
        for (uint64_t row = 0; row < all->length; row += 17) {
            IPSEC_SA_CONTEXT_ENUM_TEMPLATE0 wanted = empty_template();
            FWP_CONDITION_VALUE0 *value = remote ? &wanted.remoteSubNet : &wanted.localSubNet;
            uint8_t address[16];
            memcpy(address, remote ? BYTES16(all, remote_address, row) : BYTES16(all, local_address, row), 16);
            uint32_t host_order =
                (uint32_t)address[12] << 24 | (uint32_t)address[13] << 16 | (uint32_t)address[14] << 8 | address[15];
            if (U8(all, ip_version, row) == 4) {
                value->type = FWP_UINT32;
                value->uint32 = host_order;
                check_template(engine, all, &wanted, remote, 4, address, 128, &selected[0]);
                for (size_t i = 0; i < COUNT(v4_bits); i++) {
                    FWP_V4_ADDR_AND_MASK mask = {host_order, v4_bits[i] ? UINT32_MAX << (32 - v4_bits[i]) : 0};
                    value->type = FWP_V4_ADDR_MASK;
                    value->v4AddrMask = &mask;
                    mapped(host_order, address);
                    check_template(engine, all, &wanted, remote, 4, address, 96 + v4_bits[i], &selected[1]);
                }
            } else if (U8(all, ip_version, row) == 6) {
                FWP_BYTE_ARRAY16 host;
                memcpy(host.byteArray16, address, 16);
                value->type = FWP_BYTE_ARRAY16_TYPE;
                value->byteArray16 = &host;
                check_template(engine, all, &wanted, remote, 6, address, 128, &selected[2]);
                for (size_t i = 0; i < COUNT(v6_bits); i++) {
                    FWP_V6_ADDR_AND_MASK mask;
                    memcpy(mask.addr, address, 16);
                    mask.prefixLength = (UINT8)v6_bits[i];
                    value->type = FWP_V6_ADDR_MASK;
                    value->v6AddrMask = &mask;
                    check_template(engine, all, &wanted, remote, 6, address, v6_bits[i], &selected[3]);
                }
            }
        }
    }
    for (size_t i = 0; i < COUNT(selected); i++) {
        CHECK(selected[i] > 0);
    }
    IPSEC_SA_CONTEXT_ENUM_TEMPLATE0 wanted = empty_template(); /* the fifth type: no restriction */
    handle = begin(engine, &wanted);
    batch = rest_of(engine, handle, 1, ALL);
    CHECK(same_rows(all, batch));
    end(engine, handle);
    wfpsa_columns_release(batch);
    wfpsa_columns_release(all);
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
a_template_with_both_addresses_wants_both_of_one_sa(void)
{
    struct wfpsa_store *store = make_store(500, 0);
    HANDLE engine = open_engine(store);
    struct wfpsa_columns *all = everything(engine, 1);
    IPSEC_SA_CONTEXT_ENUM_TEMPLATE0 wanted = empty_template();
    FWP_V4_ADDR_AND_MASK remote = {0x0A000000, 0xFF000000};
    uint64_t expected = 0;
    wanted.localSubNet.type = FWP_UINT32;
    wanted.localSubNet.uint32 = 0x0A000003;
    wanted.remoteSubNet.type = FWP_V4_ADDR_MASK;
    wanted.remoteSubNet.v4AddrMask = &remote;
    HANDLE handle = begin(engine, &wanted);
    struct wfpsa_columns *batch = rest_of(engine, handle, 0, 10);
    for (uint64_t row = 0; row < all->length; row++) {
        int local_holds = memcmp(BYTES16(all, local_address, row), "\0\0\0\0\0\0\0\0\0\0\xFF\xFF\x0A\0\0\3", 16) == 0;
        expected += local_holds && U8(all, ip_version, row) == 4 && BYTES16(all, remote_address, row)[12] == 10;
    }
    CHECK(expected > 0 && expected < all->length);
    CHECK_EQUAL(batch->length, expected); /* the seed changes the first octet in no direction */
    end(engine, handle);
    wfpsa_columns_release(batch);
    wfpsa_columns_release(all);
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
bad_templates_are_refused_by_the_code_made_for_each(void)
{
    static const uint32_t foreign_types[] = {1,  2,  4,  5,  6,  7,    8,     9,     10,         12,        13,
                                             14, 15, 16, 17, 18, 0xFF, 0x102, 0x103, 0x7FFFFFFF, UINT32_MAX};
    static const uint32_t pointer_types[] = {FWP_BYTE_ARRAY16_TYPE, FWP_V4_ADDR_MASK, FWP_V6_ADDR_MASK};
    static const uint32_t bad_masks[] = {1, 0x00FFFFFF, 0xFF00FF00, 0xFFFFFFFD, 0x7FFFFFFF};
    struct wfpsa_store *store = make_store(10, 0);
    HANDLE engine = open_engine(store), handle;
    for (int remote = 0; remote <= 1; remote++) {
        IPSEC_SA_CONTEXT_ENUM_TEMPLATE0 wanted = empty_template();
        FWP_CONDITION_VALUE0 *value = remote ? &wanted.remoteSubNet : &wanted.localSubNet;
        for (size_t i = 0; i < COUNT(foreign_types); i++) {
            value->type = (FWP_DATA_TYPE)foreign_types[i];
            handle = &handle;
            CHECK_EQUAL(os->sa_context_create_enum_handle(engine, &wanted, &handle), (DWORD)FWP_E_TYPE_MISMATCH);
            CHECK(handle == NULL);
        }
        for (size_t i = 0; i < COUNT(pointer_types); i++) {
            value->type = (FWP_DATA_TYPE)pointer_types[i];
            value->byteArray16 = NULL;
            CHECK_EQUAL(os->sa_context_create_enum_handle(engine, &wanted, &handle), (DWORD)FWP_E_NULL_POINTER);
        }
        for (size_t i = 0; i < COUNT(bad_masks); i++) {
            FWP_V4_ADDR_AND_MASK mask = {0x0A000000, bad_masks[i]};
            value->type = FWP_V4_ADDR_MASK;
            value->v4AddrMask = &mask;
            CHECK_EQUAL(os->sa_context_create_enum_handle(engine, &wanted, &handle), (DWORD)FWP_E_INVALID_NET_MASK);
        }
        for (unsigned length = 129; length <= 255; length++) {
            FWP_V6_ADDR_AND_MASK mask = {{0x20, 0x01}, (UINT8)length};
            value->type = FWP_V6_ADDR_MASK;
            value->v6AddrMask = &mask;
            CHECK_EQUAL(os->sa_context_create_enum_handle(engine, &wanted, &handle), (DWORD)FWP_E_INVALID_NET_MASK);
        }
    }
    CHECK_EQUAL(live_now().enum_handles, 0);
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
a_template_of_two_families_can_never_match(void)
{
    FWP_BYTE_ARRAY16 host6 = {{0x20, 0x01}};
    FWP_V6_ADDR_AND_MASK mask6 = {{0x20, 0x01}, 0};
    FWP_V4_ADDR_AND_MASK mask4 = {0, 0};
    FWP_CONDITION_VALUE0 v4[2], v6[2];
    memset(v4, 0, sizeof v4);
    memset(v6, 0, sizeof v6);
    v4[0].type = FWP_UINT32;
    v4[1].type = FWP_V4_ADDR_MASK;
    v4[1].v4AddrMask = &mask4;
    v6[0].type = FWP_BYTE_ARRAY16_TYPE;
    v6[0].byteArray16 = &host6;
    v6[1].type = FWP_V6_ADDR_MASK;
    v6[1].v6AddrMask = &mask6;
    struct wfpsa_store *store = make_store(10, 0);
    HANDLE engine = open_engine(store), handle;
    for (int i = 0; i < 4; i++) {
        IPSEC_SA_CONTEXT_ENUM_TEMPLATE0 there = {v4[i % 2], v6[i / 2]}, back = {v6[i % 2], v4[i / 2]};
        CHECK_EQUAL(os->sa_context_create_enum_handle(engine, &there, &handle), (DWORD)FWP_E_NEVER_MATCH);
        CHECK_EQUAL(os->sa_context_create_enum_handle(engine, &back, &handle), (DWORD)FWP_E_NEVER_MATCH);
    }
    CHECK_EQUAL(live_now().enum_handles, 0);
    close_engine(engine);
    wfpsa_store_release(store);
}

/* ---- isolation ---- */

static void
an_open_enumeration_shows_the_contents_as_they_were_when_it_began(void)
{
    struct wfpsa_store *store = make_store(600, 1);
    HANDLE engine = open_engine(store), handles[4];
    struct wfpsa_columns *expected[COUNT(handles)], *seen[COUNT(handles)];
    wfpsa_store_clock(store, 1);
    for (size_t i = 0; i < COUNT(handles); i++) {
        expected[i] = everything(engine, 1);
        handles[i] = begin(engine, NULL);
        seen[i] = wfpsa_columns_new(1);
        CHECK_EQUAL(next_page(engine, handles[i], 50, seen[i]), 50); /* part was read before the changes */
        for (uint64_t row = i; row < expected[i]->length; row += 7) {
            CHECK_EQUAL(os->sa_context_expire(engine, U64(expected[i], context_id, row)), 0);
        }
        for (uint64_t row = i + 2; row < expected[i]->length; row += 11) {
            DWORD code = os->sa_context_delete_by_id(engine, U64(expected[i], context_id, row));
            CHECK(code == 0 || code == (DWORD)FWP_E_NOT_FOUND); /* expired a moment ago, and gone at once */
        }
        CHECK(wfpsa_store_seed(store, 40, i, 1));
        if (i == 1) {
            wfpsa_store_advance(store, 61000); /* the tails of two rounds end */
        }
        for (size_t open = 0; open <= i; open++) {
            CHECK_EQUAL(next_page(engine, handles[open], 30, seen[open]), 30);
        }
    }
    static const size_t order[] = {2, 0, 3, 1}; /* of ending */
    for (size_t i = 0; i < COUNT(order); i++) {
        size_t which = order[i];
        while (next_page(engine, handles[which], 77, seen[which]) == 77) {
            DWORD code = os->sa_context_expire(engine, U64(expected[which], context_id, 5));
            CHECK(code == 0 || code == (DWORD)FWP_E_NOT_FOUND);
        }
        CHECK(same_rows(expected[which], seen[which]));
        end(engine, handles[which]);
        wfpsa_columns_release(expected[which]);
        wfpsa_columns_release(seen[which]);
    }
    struct wfpsa_columns *after = everything(engine, 1);
    CHECK_EQUAL(after->length, wfpsa_store_count(store));
    wfpsa_columns_release(after);
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
versions_kept_for_an_enumeration_are_given_back_after_it(void)
{
    struct wfpsa_store *store = make_store(4000, 0);
    HANDLE engine = open_engine(store);
    struct wfpsa_columns *all = everything(engine, 0);
    int64_t most = 0;
    CHECK(wfpsa_store_switch(store, "lifetimes", "off"));
    wfpsa_store_clock(store, 1);
    for (uint64_t round = 0; round < 16; round++) {
        HANDLE handle = begin(engine, NULL);
        for (uint64_t row = round * 250; row < round * 250 + 250; row++) {
            DWORD code = round % 2 ? os->sa_context_delete_by_id(engine, U64(all, context_id, row))
                                   : os->sa_context_expire(engine, U64(all, context_id, row));
            CHECK_EQUAL(code, 0);
        }
        wfpsa_store_advance(store, 60000);
        end(engine, handle);
        if (round == 1) {
            most = live_allocations(); /* the room for one round of versions, used again from here on */
        }
    }
    CHECK(live_allocations() <= most);
    CHECK_EQUAL(wfpsa_store_count(store), 0);
    wfpsa_columns_release(all);
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
the_end_of_an_enumeration_frees_what_only_it_still_wanted(void)
{
    struct wfpsa_store *store = make_store(4000, 0);
    HANDLE engine = open_engine(store);
    struct wfpsa_columns *all = everything(engine, 0);
    int64_t deleted[2] = {0}, before, after;
    HANDLE handles[2];
    for (uint64_t half = 0; half < 2; half++) {
        handles[half] = begin(engine, NULL);
        for (uint64_t row = half * 2000; row < half * 2000 + 2000; row++) {
            if (U8(all, traffic_differs, row)) { /* such a context has a block of its own */
                CHECK_EQUAL(os->sa_context_delete_by_id(engine, U64(all, context_id, row)), 0);
                deleted[half]++;
            }
        }
    }
    for (uint64_t half = 0; half < 2; half++) {
        CHECK(deleted[half] > 3);
        before = live_allocations();
        end(engine, handles[half]);
        after = live_allocations();
        CHECK(before - after >= deleted[half] + 1); /* and the handle, and shapes that nobody has any more */
    }
    wfpsa_columns_release(all);
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
the_room_of_ended_contexts_is_used_again_and_their_ids_are_not(void)
{
    struct wfpsa_store *store = make_store(500, 0);
    HANDLE engine = open_engine(store);
    uint64_t last = 0;
    for (int round = 0; round < 20; round++) {
        struct wfpsa_columns *all = everything(engine, 0);
        CHECK_EQUAL(all->length, 500);
        uint64_t highest = last;
        for (uint64_t row = 0; row < all->length; row++) {
            uint64_t id = U64(all, context_id, row);
            CHECK(id > last);
            highest = id > highest ? id : highest;
            CHECK_EQUAL(os->sa_context_delete_by_id(engine, id), 0);
            CHECK(get(engine, id, 1) == NULL);
        }
        last = highest;
        wfpsa_columns_release(all);
        CHECK_EQUAL(wfpsa_store_count(store), 0);
        CHECK(wfpsa_store_seed(store, 500, (uint64_t)round, 0));
    }
    close_engine(engine);
    wfpsa_store_release(store);
}

/* ---- expiry and deletion ---- */

static void
expiry_drops_the_outbound_sa_at_once_and_the_inbound_sa_after_a_minute(void)
{
    struct wfpsa_store *store = make_store(200, 0);
    HANDLE engine = open_engine(store);
    struct wfpsa_columns *all = everything(engine, 1), *after;
    uint64_t row = find_sides(all, 0, 1, 1), id = U64(all, context_id, row);
    wfpsa_store_clock(store, 1);
    CHECK_EQUAL(os->sa_context_expire(engine, id), 0);
    after = get(engine, id, 1);
    CHECK(after && U8(after, has_inbound, 0) == 1 && U8(after, has_outbound, 0) == 0);
    CHECK(ABSENT(after, spi_out, 0));
    CHECK_EQUAL(U32(after, spi_in, 0), U32(all, spi_in, row));
    wfpsa_columns_release(after);
    CHECK_EQUAL(wfpsa_store_count(store), 200);
    wfpsa_store_advance(store, 59999);
    CHECK_EQUAL(os->sa_context_expire(engine, id), 0); /* once more: harmless, and no second minute */
    after = get(engine, id, 0);
    CHECK(after != NULL);
    wfpsa_columns_release(after);
    CHECK_EQUAL(wfpsa_store_count(store), 200);
    wfpsa_store_advance(store, 1);
    CHECK(get(engine, id, 1) == NULL);
    CHECK_EQUAL(wfpsa_store_count(store), 199);
    CHECK_EQUAL(os->sa_context_expire(engine, id), (DWORD)FWP_E_NOT_FOUND);
    CHECK_EQUAL(os->sa_context_delete_by_id(engine, id), (DWORD)FWP_E_NOT_FOUND);
    after = everything(engine, 1);
    CHECK_EQUAL(after->length, 199);
    CHECK_EQUAL(row_of(after, id), 199);
    wfpsa_columns_release(after);
    wfpsa_columns_release(all);
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
a_context_without_an_inbound_sa_ends_with_its_expiry_and_an_inbound_one_lingers(void)
{
    struct wfpsa_store *store = make_store(4000, 0);
    HANDLE engine = open_engine(store);
    struct wfpsa_columns *all = everything(engine, 1);
    uint64_t out_only = find_sides(all, 0, 0, 1), in_only = find_sides(all, 0, 1, 0), none = find_sides(all, 0, 0, 0);
    wfpsa_store_clock(store, 1);
    if (!CHECK(out_only < all->length && in_only < all->length && none < all->length)) {
        return;
    }
    CHECK_EQUAL(os->sa_context_expire(engine, U64(all, context_id, out_only)), 0);
    CHECK_EQUAL(os->sa_context_expire(engine, U64(all, context_id, none)), 0);
    CHECK(get(engine, U64(all, context_id, out_only), 1) == NULL);
    CHECK(get(engine, U64(all, context_id, none), 1) == NULL);
    CHECK_EQUAL(wfpsa_store_count(store), 3998);
    CHECK_EQUAL(os->sa_context_expire(engine, U64(all, context_id, in_only)), 0);
    struct wfpsa_columns *after = get(engine, U64(all, context_id, in_only), 1);
    CHECK(after && wfpsa_rows_equal(all, in_only, after, 0, NULL));
    wfpsa_columns_release(after);
    wfpsa_store_advance(store, 60000);
    CHECK_EQUAL(wfpsa_store_count(store), 3997);
    wfpsa_columns_release(all);
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
an_expired_context_shows_the_traffic_of_the_sa_that_is_left(void)
{
    struct wfpsa_store *store = make_store(4000, 0);
    HANDLE engine = open_engine(store);
    struct wfpsa_columns *all = everything(engine, 0);
    int differing = 0;
    wfpsa_store_clock(store, 1);
    for (int isolated = 0; isolated <= 1; isolated++) { /* with an enumeration open expiry makes a new version */
        HANDLE handle = isolated ? begin(engine, NULL) : NULL;
        for (uint64_t row = (uint64_t)isolated; row < all->length; row += 2) {
            uint64_t id = U64(all, context_id, row);
            IPSEC_SA_CONTEXT1 *before, *after;
            if (!U8(all, traffic_differs, row)) {
                continue;
            }
            CHECK_EQUAL(os->sa_context_get_by_id1(engine, id, &before), 0);
            CHECK_EQUAL(os->sa_context_expire(engine, id), 0);
            CHECK_EQUAL(os->sa_context_get_by_id1(engine, id, &after), 0);
            CHECK(after->outboundSa == NULL);
            CHECK_BYTES(&after->inboundSa->traffic.remoteV6Address, &before->inboundSa->traffic.remoteV6Address, 16);
            CHECK_EQUAL(after->inboundSa->traffic.remotePort, before->inboundSa->traffic.remotePort);
            CHECK(before->inboundSa->traffic.remotePort != before->outboundSa->traffic.remotePort);
            os->free_memory((void **)&before);
            os->free_memory((void **)&after);
            differing++;
        }
        if (isolated) {
            struct wfpsa_columns *seen = rest_of(engine, handle, 0, 100);
            for (uint64_t row = 1; row < all->length; row += 2) {
                CHECK(wfpsa_rows_equal(all, row, seen, row, NULL));
            }
            wfpsa_columns_release(seen);
            end(engine, handle);
        }
    }
    CHECK(differing > 4);
    wfpsa_columns_release(all);
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
deletion_takes_a_context_whole_and_at_once(void)
{
    struct wfpsa_store *store = make_store(50, 1);
    HANDLE engine = open_engine(store);
    struct wfpsa_columns *all = everything(engine, 1), *after;
    for (uint64_t row = 0; row < all->length; row += 2) {
        uint64_t id = U64(all, context_id, row);
        CHECK_EQUAL(os->sa_context_delete_by_id(engine, id), 0);
        CHECK_EQUAL(os->sa_context_delete_by_id(engine, id), (DWORD)FWP_E_NOT_FOUND);
        CHECK_EQUAL(os->sa_context_expire(engine, id), (DWORD)FWP_E_NOT_FOUND);
        CHECK(get(engine, id, 0) == NULL);
    }
    after = everything(engine, 1);
    CHECK_EQUAL(after->length, 25);
    for (uint64_t row = 0; row < after->length; row++) {
        CHECK(wfpsa_rows_equal(all, row * 2 + 1, after, row, NULL));
    }
    wfpsa_columns_release(after);
    wfpsa_columns_release(all);
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
deleting_in_the_inbound_tail_is_final_and_the_tail_ends_unnoticed(void)
{
    struct wfpsa_store *store = make_store(100, 0);
    HANDLE engine = open_engine(store);
    struct wfpsa_columns *all = everything(engine, 0);
    CHECK(wfpsa_store_switch(store, "lifetimes", "off"));
    wfpsa_store_clock(store, 1);
    for (uint64_t row = 0; row < 60; row++) {
        CHECK_EQUAL(os->sa_context_expire(engine, U64(all, context_id, row)), 0);
    }
    uint64_t count = wfpsa_store_count(store);
    for (uint64_t row = 0; row < 30; row++) {
        count -= os->sa_context_delete_by_id(engine, U64(all, context_id, row)) == 0;
    }
    CHECK_EQUAL(wfpsa_store_count(store), count);
    wfpsa_store_advance(store, 1000000);
    CHECK_EQUAL(wfpsa_store_count(store), 40);
    wfpsa_columns_release(all);
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
the_clock_follows_real_time_until_it_is_taken_over(void)
{
    struct wfpsa_store *store = make_store(100, 0);
    HANDLE engine = open_engine(store);
    struct wfpsa_columns *all = everything(engine, 0);
    uint64_t id = U64(all, context_id, find_sides(all, 0, 1, 1));
    CHECK_EQUAL(os->sa_context_expire(engine, id), 0);
    CHECK_EQUAL(wfpsa_store_count(store), 100);
    wfpsa_store_clock(store, 1); /* goes on from where it stood */
    CHECK_EQUAL(wfpsa_store_count(store), 100);
    wfpsa_store_advance(store, 30000);
    wfpsa_store_clock(store, 0); /* and so does real time */
    CHECK_EQUAL(wfpsa_store_count(store), 100);
    wfpsa_store_advance(store, 30000);
    CHECK_EQUAL(wfpsa_store_count(store), 99);
    wfpsa_columns_release(all);
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
a_dynamic_session_may_do_everything_but_delete(void)
{
    struct wfpsa_store *store = make_store(20, 0);
    HANDLE engine = open_with(store, FWPM_SESSION_FLAG_DYNAMIC);
    struct wfpsa_columns *all = everything(engine, 1), *one;
    uint64_t id = U64(all, context_id, 0);
    CHECK_EQUAL(os->sa_context_delete_by_id(engine, id), (DWORD)FWP_E_DYNAMIC_SESSION_IN_PROGRESS);
    CHECK_EQUAL(os->sa_context_delete_by_id(engine, 1), (DWORD)FWP_E_DYNAMIC_SESSION_IN_PROGRESS);
    one = get(engine, id, 1);
    CHECK(one != NULL);
    CHECK_EQUAL(os->sa_context_expire(engine, id), 0);
    wfpsa_columns_release(one);
    wfpsa_columns_release(all);
    close_engine(engine);
    CHECK(wfpsa_store_count(store) >= 19); /* contexts are no session's own */
    wfpsa_store_release(store);
}

/* ---- rights ---- */

static void
each_profile_may_do_what_the_default_access_list_grants(void)
{
    static const struct {
        enum wfpsa_rights rights;
        DWORD enumerate, get, expire, delete;
    } cases[] = {{WFPSA_RIGHTS_ADMINISTRATOR, 0, 0, 0, 0},
                 {WFPSA_RIGHTS_NETWORK_OPERATOR, 0, 0, 0, 0},
                 {WFPSA_RIGHTS_READ_ONLY, 0, 0, 5, 5},
                 {WFPSA_RIGHTS_EVERYONE, 5, 5, 5, 5}};
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct wfpsa_store *store = make_store(20, 0);
        HANDLE administrator = open_engine(store), engine, handle = NULL;
        struct wfpsa_columns *all = everything(administrator, 1);
        IPSEC_SA_CONTEXT0 *found0 = NULL;
        IPSEC_SA_CONTEXT1 *found1 = NULL;
        uint64_t id = U64(all, context_id, find_sides(all, 0, 1, 1));
        wfpsa_store_rights(store, cases[i].rights);
        engine = open_engine(store); /* whoever may not even read may open */
        CHECK_EQUAL(os->sa_context_create_enum_handle(engine, NULL, &handle), cases[i].enumerate);
        CHECK_EQUAL(os->sa_context_get_by_id0(engine, id, &found0), cases[i].get);
        CHECK_EQUAL(os->sa_context_get_by_id1(engine, id, &found1), cases[i].get);
        CHECK_EQUAL(os->sa_context_expire(engine, id), cases[i].expire);
        CHECK_EQUAL(os->sa_context_delete_by_id(engine, id), cases[i].delete);
        os->free_memory((void **)&found0);
        os->free_memory((void **)&found1);
        if (handle) {
            struct wfpsa_columns *batch = rest_of(engine, handle, 1, 7);
            CHECK_EQUAL(batch->length, 20);
            wfpsa_columns_release(batch);
            end(engine, handle);
        }
        CHECK_EQUAL(wfpsa_store_count(store), cases[i].delete ? 20 : 19);
        id = U64(all, context_id, 19);
        CHECK_EQUAL(os->sa_context_delete_by_id(administrator, id), 0); /* who was let in before keeps his rights */
        wfpsa_columns_release(all);
        close_engine(engine);
        close_engine(administrator);
        wfpsa_store_release(store);
    }
}

/* ---- faults, latency ---- */

/* Calls the engine's function of that name once; whatever it hands out is given back. */
static DWORD
call_once(const struct wfpsa_store *store, HANDLE engine, HANDLE handle, uint64_t id, const char *function)
{
    DWORD code;
    UINT32 returned;
    IPSEC_SA_CONTEXT0 **page0 = NULL, *found0 = NULL;
    IPSEC_SA_CONTEXT1 **page1 = NULL, *found1 = NULL;
    HANDLE made = NULL;
    if (strcmp(function, "FwpmEngineOpen0") == 0) {
        code = os->engine_open((const WCHAR *)wfpsa_store_name(store), RPC_C_AUTHN_WINNT, NULL, NULL, &made);
        if (made) {
            CHECK_EQUAL(os->engine_close(made), 0);
        }
    } else if (strcmp(function, "FwpmEngineClose0") == 0) {
        code = os->engine_close(open_engine(store)); /* closed all the same: nobody could close it later */
    } else if (strcmp(function, "IPsecSaContextCreateEnumHandle0") == 0) {
        code = os->sa_context_create_enum_handle(engine, NULL, &made);
        if (code == 0) {
            end(engine, made);
        }
    } else if (strcmp(function, "IPsecSaContextEnum0") == 0) {
        code = os->sa_context_enum0(engine, handle, 1, &page0, &returned);
    } else if (strcmp(function, "IPsecSaContextEnum1") == 0) {
        code = os->sa_context_enum1(engine, handle, 1, &page1, &returned);
    } else if (strcmp(function, "IPsecSaContextDestroyEnumHandle0") == 0) {
        made = begin(engine, NULL);
        code = os->sa_context_destroy_enum_handle(engine, made);
        if (code != 0) {
            end(engine, made); /* a failed call changed nothing */
        }
    } else if (strcmp(function, "IPsecSaContextGetById0") == 0) {
        code = os->sa_context_get_by_id0(engine, id, &found0);
    } else if (strcmp(function, "IPsecSaContextGetById1") == 0) {
        code = os->sa_context_get_by_id1(engine, id, &found1);
    } else if (strcmp(function, "IPsecSaContextExpire0") == 0) {
        code = os->sa_context_expire(engine, id);
    } else if (strcmp(function, "IPsecSaContextDeleteById0") == 0) {
        code = os->sa_context_delete_by_id(engine, 1);
        code = code == (DWORD)FWP_E_NOT_FOUND ? 0 : code;
    } else {
        return 0;
    }
    CHECK(code == 0 || (page0 == NULL && page1 == NULL && found0 == NULL && found1 == NULL));
    os->free_memory((void **)&page0);
    os->free_memory((void **)&page1);
    os->free_memory((void **)&found0);
    os->free_memory((void **)&found1);
    return code;
}

static void
a_planned_failure_strikes_the_nth_call_of_its_function_once(void)
{
    /* The first four in pairs: one of a pair is called with the other. */
    static const char *const functions[] = {"FwpmEngineOpen0",
                                            "FwpmEngineClose0",
                                            "IPsecSaContextCreateEnumHandle0",
                                            "IPsecSaContextDestroyEnumHandle0",
                                            "IPsecSaContextEnum0",
                                            "IPsecSaContextEnum1",
                                            "IPsecSaContextGetById0",
                                            "IPsecSaContextGetById1",
                                            "IPsecSaContextExpire0",
                                            "IPsecSaContextDeleteById0"};
    struct wfpsa_store *store = make_store(100, 0);
    HANDLE engine = open_engine(store), handle = begin(engine, NULL);
    struct wfpsa_columns *all = everything(engine, 1);
    uint64_t id = U64(all, context_id, find_sides(all, 0, 1, 1));
    for (size_t i = 0; i < COUNT(functions); i++) {
        for (uint64_t nth = 1; nth <= 3; nth++) {
            CHECK(wfpsa_store_fail(store, functions[i], nth, 0x80320012));
            for (size_t other = 0; other < COUNT(functions); other++) { /* their calls do not count */
                if (other != i && !(i < 4 && other == (i ^ 1))) {
                    CHECK_EQUAL(call_once(store, engine, handle, id, functions[other]), 0);
                }
            }
            for (uint64_t call = 1; call <= 4; call++) {
                CHECK_EQUAL(call_once(store, engine, handle, id, functions[i]), call == nth ? 0x80320012 : 0);
            }
        }
        CHECK(wfpsa_store_fail(store, functions[i], 1, 5));
        CHECK(wfpsa_store_fail(store, functions[i], 0, 5)); /* cancelled */
        CHECK_EQUAL(call_once(store, engine, handle, id, functions[i]), 0);
    }
    wfpsa_columns_release(all);
    end(engine, handle);
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
only_functions_that_the_engine_answers_can_be_made_to_fail(void)
{
    struct wfpsa_store *store = make_store(0, 0);
    uintptr_t address;
    const char *function;
    for (uint32_t i = 0; (function = wfpsa_backend_function(os, i, &address)) != NULL; i++) {
        if (strcmp(function, "FwpmFreeMemory0") != 0) { /* it has no way to fail */
            CHECK_EQUAL(wfpsa_store_fail(store, function, 1000, 5), address != 0);
        }
    }
    CHECK(!wfpsa_store_fail(store, "", 1, 5));
    CHECK(!wfpsa_store_fail(store, "IPsecSaContextEnum", 1, 5));
    CHECK(!wfpsa_store_fail(store, "IPsecSaContextEnum2", 1, 5));
    wfpsa_store_release(store);
}

static void
latency_is_slept_for_each_call_and_each_entry(void)
{
    struct wfpsa_store *store = make_store(10, 0);
    HANDLE engine = open_engine(store), handle = begin(engine, NULL);
    struct wfpsa_columns *batch = wfpsa_columns_new(1);
    wfpsa_store_latency(store, 2000000, 100000);
    uint64_t start = wfpsa_monotonic_ns();
    CHECK_EQUAL(os->sa_context_expire(engine, 1), (DWORD)FWP_E_NOT_FOUND);
    CHECK(wfpsa_monotonic_ns() - start >= 2000000);
    start = wfpsa_monotonic_ns();
    CHECK_EQUAL(next_page(engine, handle, ALL, batch), 10);
    CHECK(wfpsa_monotonic_ns() - start >= 3000000);
    wfpsa_store_latency(store, 0, 0);
    wfpsa_columns_release(batch);
    end(engine, handle);
    close_engine(engine);
    wfpsa_store_release(store);
}

/* ---- seeding ---- */

static void
seeding_is_deterministic(void)
{
    struct wfpsa_columns *batches[5];
    for (int i = 0; i < 5; i++) {
        int created;
        struct wfpsa_store *store = wfpsa_store_open(NULL, &created);
        CHECK(wfpsa_store_seed(store, i == 4 ? 301 : 300, i == 2 ? 8 : 7, i != 3));
        HANDLE engine = open_engine(store);
        batches[i] = everything(engine, 1);
        close_engine(engine);
        wfpsa_store_release(store);
    }
    CHECK(same_rows(batches[0], batches[1]));
    CHECK(!same_rows(batches[0], batches[2]));
    CHECK(!same_rows(batches[0], batches[3]));
    CHECK_EQUAL(batches[4]->length, 301);
    for (int i = 0; i < 5; i++) {
        wfpsa_columns_release(batches[i]);
    }
}

static void
a_plausible_population_has_every_kind_of_context(void)
{
    struct wfpsa_store *store = make_store(5000, 0);
    HANDLE engine = open_engine(store);
    struct wfpsa_columns *all = everything(engine, 1);
    uint64_t v6 = 0, tunnels = 0, nat = 0, ah = 0, gcm = 0, differs = 0, named = 0, unnamed = 0, filters = 0;
    for (uint64_t row = 0; row < all->length; row++) {
        v6 += U8(all, ip_version, row) == 6;
        tunnels += U8(all, traffic_type, row) == IPSEC_TRAFFIC_TYPE_TUNNEL;
        nat += !ABSENT(all, udp_remote_port_out, row);
        ah += !ABSENT(all, ah_spi_out, row);
        gcm += U8(all, cipher_config_out, row) >= 6 && U8(all, cipher_config_out, row) <= 8;
        differs += U8(all, traffic_differs, row);
        named += !ABSENT(all, main_mode_target_out, row);
        unnamed += U8(all, has_outbound, row) && ABSENT(all, main_mode_target_out, row);
        filters += !ABSENT(all, transport_filter_id_out, row);
        CHECK(U64(all, context_id, row) > UINT32_MAX && U64(all, context_id, row) < UINT64_MAX / 2);
        CHECK(U8(all, ip_version, row) != WFPSA_IP_VERSION_OTHER);
        CHECK(U8(all, transform_out, row) != WFPSA_ENUM_OUT_OF_RANGE);
    }
    CHECK(v6 > 500 && tunnels > 500 && nat > 100 && ah > 100 && gcm > 500 && differs > 5);
    CHECK(named > 1000 && unnamed > 500 && filters > 1000);
    CHECK(find_sides(all, 0, 0, 0) < all->length && find_sides(all, 0, 1, 0) < all->length);
    CHECK(find_sides(all, 0, 0, 1) < all->length && find_sides(all, 0, 1, 1) < all->length);
    int beyond_ascii = 0;
    for (int32_t i = 0; i < all->strings.offsets[all->strings.count + 1]; i++) {
        beyond_ascii += all->strings.text[i] < 0;
    }
    CHECK(beyond_ascii > 0);
    wfpsa_columns_release(all);
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
an_odd_population_has_what_no_sane_engine_returns(void)
{
    struct wfpsa_store *store = make_store(5000, 1);
    HANDLE engine = open_engine(store);
    for (uint32_t version = 0; version <= 1; version++) {
        struct wfpsa_columns *all = everything(engine, version);
        uint64_t others = 0, high = 0, unlisted = 0, many = 0, transforms = 0, types = 0, empty = 0;
        for (uint64_t row = 0; row < all->length; row++) {
            others += U8(all, ip_version, row) == WFPSA_IP_VERSION_OTHER;
            high += U64(all, context_id, row) >> 63;
            unlisted += U8(all, has_outbound, row) && ABSENT(all, spi_out, row);
            many += U8(all, sa_count_out, row) == 254;
            transforms += U8(all, transform_out, row) == WFPSA_ENUM_OUT_OF_RANGE;
            types += U8(all, traffic_type, row) == WFPSA_ENUM_OUT_OF_RANGE;
            empty +=
                !ABSENT(all, main_mode_target_out, row) && name_is(all, U32(all, main_mode_target_out, row), "", 0);
        }
        CHECK(others && high && unlisted && many && transforms && types && empty);
        wfpsa_columns_release(all);
    }
    close_engine(engine);
    wfpsa_store_release(store);
}

static int
is_marked(const FWP_BYTE_BLOB *blob)
{
    for (uint32_t i = 0; i < blob->size; i++) {
        if (blob->data[i] != (uint8_t)WFPSA_KEY_MARK[i % WFPSA_KEY_MARK_BYTES]) {
            return 0;
        }
    }
    return 1;
}

static int
is_zero(const FWP_BYTE_BLOB *blob)
{
    for (uint32_t i = 0; i < blob->size; i++) {
        if (blob->data[i]) {
            return 0;
        }
    }
    return 1;
}

/* The blobs of one direction that hold: the mark, or zeros. */
static int
blobs_hold(const IPSEC_SA_DETAILS1 *details, int (*test)(const FWP_BYTE_BLOB *), uint64_t *bytes)
{
    int all = 1;
    for (uint32_t i = 0; details && i < details->saBundle.numSAs; i++) {
        const IPSEC_SA0 *sa = &details->saBundle.saList[i];
        switch (sa->saTransformType) {
        case IPSEC_TRANSFORM_ESP_CIPHER:
            *bytes += sa->espCipherInformation->cipherKey.size;
            all &= test(&sa->espCipherInformation->cipherKey);
            break;
        case IPSEC_TRANSFORM_ESP_AUTH_AND_CIPHER:
            *bytes += sa->espAuthAndCipherInformation->saCipherInformation.cipherKey.size;
            all &= test(&sa->espAuthAndCipherInformation->saCipherInformation.cipherKey);
            all &= test(&sa->espAuthAndCipherInformation->saAuthInformation.authKey);
            break;
        default:
            *bytes += sa->ahInformation->authKey.size;
            all &= test(&sa->ahInformation->authKey);
            break;
        }
    }
    if (details && details->saBundle.keyModuleState) {
        *bytes += details->saBundle.keyModuleState->stateBlob.size;
        all &= test(&details->saBundle.keyModuleState->stateBlob);
    }
    return all;
}

static void
key_blobs_hold_the_mark_until_a_page_is_decoded(void)
{
    struct wfpsa_store *store = make_store(1000, 0);
    HANDLE engine = open_engine(store), handle = begin(engine, NULL);
    IPSEC_SA_CONTEXT1 **page;
    UINT32 returned;
    uint64_t bytes = 0;
    CHECK_EQUAL(os->sa_context_enum1(engine, handle, ALL, &page, &returned), 0);
    for (uint32_t i = 0; i < returned; i++) {
        CHECK(blobs_hold(page[i]->inboundSa, is_marked, &bytes) && blobs_hold(page[i]->outboundSa, is_marked, &bytes));
    }
    CHECK(bytes > 50000);
    struct wfpsa_columns *batch = wfpsa_columns_new(1);
    CHECK_EQUAL(wfpsa_columns_append1(batch, page, returned, NULL), WFPSA_OK);
    for (uint32_t i = 0; i < returned; i++) {
        CHECK(blobs_hold(page[i]->inboundSa, is_zero, &bytes) && blobs_hold(page[i]->outboundSa, is_zero, &bytes));
    }
    os->free_memory((void **)&page);
    wfpsa_columns_release(batch);
    end(engine, handle);
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
too_large_a_population_is_refused_whole(void)
{
    int created;
    struct wfpsa_store *store = wfpsa_store_open(NULL, &created);
    CHECK(!wfpsa_store_seed(store, UINT64_MAX, 1, 0));
    CHECK(!wfpsa_store_seed(store, (uint64_t)1 << 32, 1, 0));
    CHECK_EQUAL(wfpsa_store_count(store), 0);
    CHECK(wfpsa_store_seed(store, 0, 1, 1));
    CHECK_EQUAL(wfpsa_store_count(store), 0);
    CHECK(wfpsa_store_seed(store, 10, 1, 1));
    wfpsa_embedded_fail_allocation(500);
    CHECK(!wfpsa_store_seed(store, UINT64_MAX - 5, 1, 0)); /* with what is there it would wrap around */
    CHECK(!failure_struck(500));                           /* refused before anything was made */
    CHECK_EQUAL(wfpsa_store_count(store), 10);
    wfpsa_store_release(store);
}

/* ---- the table ---- */

static void
the_table_names_every_function_of_the_os(void)
{
    uintptr_t address;
    const char *function;
    uint32_t answered = 0, index = 0;
    for (; (function = wfpsa_backend_function(os, index, &address)) != NULL; index++) {
        CHECK(strncmp(function, "Fwpm", 4) == 0 || strncmp(function, "IPsec", 5) == 0);
        answered += address != 0;
    }
    CHECK_EQUAL(index, 24);
    CHECK_EQUAL(answered, index);
    CHECK(wfpsa_backend_function(os, UINT32_MAX, &address) == NULL);
    CHECK_TEXT(wfpsa_backend_function(os, 8, &address), "IPsecSaContextEnum1");
    uintptr_t expected;
    memcpy(&expected, &os->sa_context_enum1, sizeof expected);
    CHECK_EQUAL(address, expected);

    uint32_t backends = 0;
    while (wfpsa_backend_at(backends)) {
        backends++;
    }
    CHECK(backends >= 2 && wfpsa_backend_at(backends - 2) == os &&
          wfpsa_backend_at(backends - 1) == &wfpsa_noop_backend);
    CHECK(wfpsa_backend_at(UINT32_MAX) == NULL);
    CHECK_TEXT(wfpsa_backend_name(os), "embedded");
}

int
main(void)
{
    RUN(opening_a_session_refuses_what_the_os_refuses);
    RUN(a_session_without_a_name_opens_the_default_store);
    RUN(stores_are_found_by_name_and_unnamed_ones_are_distinct);
    RUN(bad_handles_are_refused_by_every_call);
    RUN(freeing_nothing_is_allowed);
    RUN(closing_a_session_ends_the_enumerations_it_left_open);
    RUN(a_page_stands_alone_when_its_contexts_session_and_store_are_gone);
    RUN(every_page_size_returns_everything_once_and_in_the_same_order);
    RUN(an_empty_store_has_one_empty_page);
    RUN(both_structure_versions_say_the_same);
    RUN(get_by_id_returns_what_the_enumeration_shows);
    RUN(templates_of_all_five_types_select_by_either_address);
    RUN(a_template_with_both_addresses_wants_both_of_one_sa);
    RUN(bad_templates_are_refused_by_the_code_made_for_each);
    RUN(a_template_of_two_families_can_never_match);
    RUN(an_open_enumeration_shows_the_contents_as_they_were_when_it_began);
    RUN(versions_kept_for_an_enumeration_are_given_back_after_it);
    RUN(the_end_of_an_enumeration_frees_what_only_it_still_wanted);
    RUN(the_room_of_ended_contexts_is_used_again_and_their_ids_are_not);
    RUN(expiry_drops_the_outbound_sa_at_once_and_the_inbound_sa_after_a_minute);
    RUN(a_context_without_an_inbound_sa_ends_with_its_expiry_and_an_inbound_one_lingers);
    RUN(an_expired_context_shows_the_traffic_of_the_sa_that_is_left);
    RUN(deletion_takes_a_context_whole_and_at_once);
    RUN(deleting_in_the_inbound_tail_is_final_and_the_tail_ends_unnoticed);
    RUN(the_clock_follows_real_time_until_it_is_taken_over);
    RUN(a_dynamic_session_may_do_everything_but_delete);
    RUN(each_profile_may_do_what_the_default_access_list_grants);
    RUN(a_planned_failure_strikes_the_nth_call_of_its_function_once);
    RUN(only_functions_that_the_engine_answers_can_be_made_to_fail);
    RUN(latency_is_slept_for_each_call_and_each_entry);
    RUN(seeding_is_deterministic);
    RUN(a_plausible_population_has_every_kind_of_context);
    RUN(an_odd_population_has_what_no_sane_engine_returns);
    RUN(key_blobs_hold_the_mark_until_a_page_is_decoded);
    RUN(too_large_a_population_is_refused_whole);
    RUN(the_table_names_every_function_of_the_os);
    return closing_line();
}
