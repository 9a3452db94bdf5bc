/* The switches: their names and choices, and the effect of those that only enumerations show. The others: keys and
 * duplicates in test_keying.c; lifetimes, idle and second_expiry in test_lifetimes.c; add_event, delete_event and
 * overflow in test_notify.c; transaction_changes and latency in test_transactions.c; those of a restart in
 * test_service.c; foreign_handle in test_misuse.c.
 */
#include "scene.h"

static void
every_switch_takes_its_choices_and_no_others(void)
{
    static const char *const names[] = {
        "enumeration",      "empty_page", "templates",           "foreign_handle", "keys",
        "second_expiry",    "duplicates", "lifetimes",           "idle",           "add_event",
        "delete_event",     "overflow",   "transaction_changes", "latency",        "contexts_after_restart",
        "ids_after_restart"};
    struct wfpsa_store *store = make_store(10, 0);
    const struct wfpsa_switch *named;
    uint32_t count = 0;
    for (; (named = wfpsa_switch_at(count)) != NULL; count++) {
        char choice[64];
        int choices = 0;
        CHECK(count < COUNT(names));
        CHECK_TEXT(named->name, names[count < COUNT(names) ? count : 0]);
        CHECK(strlen(named->meaning) > 10);
        for (const char *at = named->choices; *at; at += strcspn(at, " "), at += *at == ' ') {
            size_t length = strcspn(at, " ");
            if (!CHECK(length > 0 && length < sizeof choice - 1)) {
                break;
            }
            memcpy(choice, at, length);
            choice[length] = 0;
            CHECK(wfpsa_store_switch(store, named->name, choice));
            CHECK(wfpsa_store_switch(store, named->name, choice));
            choice[length] = 'x';
            choice[length + 1] = 0;
            CHECK(!wfpsa_store_switch(store, named->name, choice));
            choice[length - 1] = 0;
            CHECK(!wfpsa_store_switch(store, named->name, choice)); /* a part of one is none */
            choices++;
        }
        CHECK(choices >= 2);
        CHECK(!wfpsa_store_switch(store, named->name, ""));
        CHECK(!wfpsa_store_switch(store, named->name, " "));
        CHECK(!wfpsa_store_switch(store, named->name, named->choices));
        CHECK(!wfpsa_store_switch(store, named->name, named->name));
    }
    CHECK_EQUAL(count, COUNT(names)); /* a new one needs a test that sees its effect */
    CHECK(wfpsa_switch_at(UINT32_MAX) == NULL);
    CHECK(!wfpsa_store_switch(store, "", "on"));
    CHECK(!wfpsa_store_switch(store, "lifetime", "on"));
    wfpsa_store_release(store);
}

static void
a_live_enumeration_shows_the_contents_of_each_call(void)
{
    struct wfpsa_store *store = make_store(100, 0);
    HANDLE engine = open_engine(store);
    struct wfpsa_columns *all = everything(engine, 0);
    for (int live = 0; live <= 1; live++) {
        CHECK(wfpsa_store_switch(store, "enumeration", live ? "live" : "snapshot"));
        HANDLE handle = begin(engine, NULL);
        CHECK(wfpsa_store_switch(store, "enumeration", live ? "snapshot" : "live")); /* for later ones */
        struct wfpsa_columns *batch = wfpsa_columns_new(1);
        CHECK_EQUAL(next_page(engine, handle, 10, batch), 10);
        uint64_t now = wfpsa_store_count(store);
        for (uint64_t row = 50; row < 60; row++) {
            CHECK_EQUAL(os->sa_context_delete_by_id(engine, U64(all, context_id, row + 10 * (uint64_t)live)), 0);
        }
        CHECK(wfpsa_store_seed(store, 15, 1, 0)); /* ten of them where others were, or behind */
        while (next_page(engine, handle, 10, batch) == 10) {
        }
        CHECK_EQUAL(batch->length, live ? now + 5 : now);
        uint64_t gone = row_of(batch, U64(all, context_id, 50 + 10 * (uint64_t)live));
        CHECK_EQUAL(gone == batch->length, live);
        end(engine, handle);
        wfpsa_columns_release(batch);
    }
    wfpsa_columns_release(all);
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
an_empty_page_is_null_or_a_block_to_be_freed(void)
{
    struct wfpsa_store *store = make_store(0, 0);
    HANDLE engine = open_engine(store);
    for (int block = 0; block <= 1; block++) {
        IPSEC_SA_CONTEXT0 **page0 = NULL;
        IPSEC_SA_CONTEXT1 **page1 = NULL;
        UINT32 returned = 5;
        HANDLE handle = begin(engine, NULL);
        CHECK(wfpsa_store_switch(store, "empty_page", block ? "block" : "null"));
        CHECK_EQUAL(os->sa_context_enum0(engine, handle, 10, &page0, &returned), 0);
        CHECK(returned == 0 && (page0 != NULL) == block);
        CHECK_EQUAL(os->sa_context_enum1(engine, handle, 10, &page1, &returned), 0);
        CHECK(returned == 0 && (page1 != NULL) == block);
        CHECK_EQUAL(live_now().pages, 2 * block);
        os->free_memory((void **)&page0);
        os->free_memory((void **)&page1);
        end(engine, handle);
    }
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
templates_may_be_narrowed_to_the_one_type_of_the_docs_page(void)
{
    struct wfpsa_store *store = make_store(10, 0);
    HANDLE engine = open_engine(store), handle;
    FWP_V4_ADDR_AND_MASK v4 = {0, 0};
    FWP_V6_ADDR_AND_MASK v6 = {{0}, 0};
    FWP_BYTE_ARRAY16 host = {{0}};
    for (int narrow = 0; narrow <= 1; narrow++) {
        CHECK(wfpsa_store_switch(store, "templates", narrow ? "v6_mask" : "all"));
        for (int type = 0; type < 5; type++) {
            IPSEC_SA_CONTEXT_ENUM_TEMPLATE0 wanted = empty_template();
            static const uint32_t types[5] = {FWP_EMPTY, FWP_V6_ADDR_MASK, FWP_UINT32, FWP_BYTE_ARRAY16_TYPE,
                                              FWP_V4_ADDR_MASK};
            wanted.remoteSubNet.type = (FWP_DATA_TYPE)types[type];
            if (type == 1) {
                wanted.remoteSubNet.v6AddrMask = &v6;
            } else if (type == 3) {
                wanted.remoteSubNet.byteArray16 = &host;
            } else if (type == 4) {
                wanted.remoteSubNet.v4AddrMask = &v4;
            }
            CHECK_EQUAL(os->sa_context_create_enum_handle(engine, &wanted, &handle),
                        narrow && type >= 2 ? (DWORD)FWP_E_TYPE_MISMATCH : 0);
            if (handle) {
                end(engine, handle);
            }
        }
        end(engine, begin(engine, NULL));
    }
    close_engine(engine);
    wfpsa_store_release(store);
}

int
main(void)
{
    RUN(every_switch_takes_its_choices_and_no_others);
    RUN(a_live_enumeration_shows_the_contents_of_each_call);
    RUN(an_empty_page_is_null_or_a_block_to_be_freed);
    RUN(templates_may_be_narrowed_to_the_one_type_of_the_docs_page);
    return closing_line();
}
