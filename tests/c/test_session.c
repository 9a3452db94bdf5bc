/* The session that threads share: enumeration, filters here or in the engine, failures on the way, closing, expiry. */
#include "batch.h"
#include "threads.h"

#include "libwfpsa/session.h"
#include "wfpsa/events.h"

#ifndef _WIN32
#include <sys/wait.h>
#endif

#define COUNT(array) (sizeof(array) / sizeof(array)[0])
#define FOREVER 0xFFFFFFFFu
#define TIMEOUT 0x80320012u
#define ABORTED 0x80320010u

/* ---- helpers ---- */

static struct wfpsa_store *
make_store(uint64_t count, int odd)
{
    int created;
    struct wfpsa_store *store = wfpsa_store_open(NULL, &created);
    CHECK(store != NULL && wfpsa_store_seed(store, count, 11, odd));
    return store;
}

static struct wfpsa_session *
open_over(const struct wfpsa_backend *backend, const struct wfpsa_store *store)
{
    struct wfpsa_session *session = NULL;
    struct wfpsa_failure failure = {0, ""};
    CHECK_EQUAL(wfpsa_session_open(backend, wfpsa_store_name(store), FOREVER, &session, &failure), WFPSA_OK);
    return session;
}

static struct wfpsa_session *
open_session(const struct wfpsa_store *store)
{
    return open_over(&wfpsa_embedded_backend, store);
}

static void
end_session(struct wfpsa_session *session)
{
    struct wfpsa_failure failure;
    CHECK_EQUAL(wfpsa_session_close(session, &failure), WFPSA_OK);
    wfpsa_session_free(session);
}

static struct wfpsa_subnet
subnet4(uint32_t host_order, uint8_t bits)
{
    struct wfpsa_subnet subnet = {4, bits, {0}};
    subnet.address[10] = subnet.address[11] = 0xFF;
    for (int i = 0; i < 4; i++) {
        subnet.address[12 + i] = (uint8_t)(host_order >> (24 - 8 * i));
    }
    return subnet;
}

static struct wfpsa_subnet
subnet6(const char *address, uint8_t bits)
{
    struct wfpsa_subnet subnet = {6, bits, {0}};
    memcpy(subnet.address, address, 16);
    return subnet;
}

static const struct wfpsa_subnet any = {0, 0, {0}};

/* The codes and the function of a failed call. */
#define CHECK_FAILURE(status, failure, expected_code, expected_function)                                              \
    do {                                                                                                              \
        CHECK_EQUAL(status, WFPSA_CALL_FAILED);                                                                       \
        CHECK_EQUAL((failure).code, expected_code);                                                                   \
        CHECK_TEXT((failure).function, expected_function);                                                            \
    } while (0)

/* ---- opening ---- */

static void
opening_reports_the_call_that_failed(void)
{
    struct wfpsa_session *session = (struct wfpsa_session *)&session;
    struct wfpsa_failure failure;
    struct wfpsa_store *store = make_store(3, 0);
    int status = wfpsa_session_open(&wfpsa_embedded_backend, u"no such store", 0, &session, &failure);
    CHECK_FAILURE(status, failure, RPC_S_SERVER_UNAVAILABLE, "FwpmEngineOpen0");
    CHECK(session == NULL);
    CHECK(wfpsa_store_fail(store, "FwpmEngineOpen0", 1, 1753));
    status = wfpsa_session_open(&wfpsa_embedded_backend, wfpsa_store_name(store), 0, &session, &failure);
    CHECK_FAILURE(status, failure, 1753, "FwpmEngineOpen0");
    CHECK(session == NULL);
    wfpsa_session_free(NULL);
    wfpsa_enumeration_free(NULL);
    wfpsa_store_release(store);
}

static const FWPM_SESSION0 *asked_for;
static FWPM_SESSION0 last_asked;

static DWORD WINAPI
noting_open(const WCHAR *server_name, UINT32 service, SEC_WINNT_AUTH_IDENTITY_W *identity,
            const FWPM_SESSION0 *session, HANDLE *engine)
{
    asked_for = session;
    last_asked = *session;
    CHECK_EQUAL(service, RPC_C_AUTHN_DEFAULT);
    CHECK(identity == NULL);
    return wfpsa_embedded_backend.engine_open(server_name, service, identity, session, engine);
}

static void
opening_asks_for_the_lock_wait_and_nothing_else(void)
{
    static const uint32_t waits[] = {0, 1, 15000, FOREVER};
    static const GUID no_key;
    struct wfpsa_backend backend = wfpsa_embedded_backend;
    struct wfpsa_store *store = make_store(0, 0);
    backend.engine_open = noting_open;
    for (size_t i = 0; i < COUNT(waits); i++) {
        struct wfpsa_session *session;
        struct wfpsa_failure failure;
        CHECK_EQUAL(wfpsa_session_open(&backend, wfpsa_store_name(store), waits[i], &session, &failure), WFPSA_OK);
        CHECK(asked_for != NULL);
        CHECK_EQUAL(last_asked.txnWaitTimeoutInMSec, waits[i]);
        CHECK_EQUAL(last_asked.flags, 0);
        CHECK_BYTES(&last_asked.sessionKey, &no_key, sizeof no_key);
        end_session(session);
    }
    wfpsa_store_release(store);
}

/* ---- enumeration ---- */

static void
an_enumeration_fetches_page_by_page_to_the_end(void)
{
    static const uint32_t sizes[] = {1, 9, 250, 251, 1000, FOREVER};
    struct wfpsa_store *store = make_store(250, 1);
    struct wfpsa_session *session = open_session(store);
    for (uint32_t version = 0; version <= 1; version++) {
        struct wfpsa_columns *all = snapshot_all(session, version);
        CHECK_EQUAL(all->length, 250);
        for (size_t i = 0; i < COUNT(sizes); i++) {
            struct wfpsa_enumeration *enumeration;
            struct wfpsa_failure failure;
            struct wfpsa_columns *batch = wfpsa_columns_new(version);
            int more = 1;
            uint32_t calls = 0;
            CHECK_EQUAL(wfpsa_enumeration_open(session, version, sizes[i], NULL, &enumeration, &failure), WFPSA_OK);
            CHECK(wfpsa_enumeration_pushed_down(enumeration));
            while (more) {
                CHECK_EQUAL(wfpsa_enumeration_next(enumeration, batch, &more, &failure), WFPSA_OK);
                calls++;
            }
            CHECK_EQUAL(calls, 250 / sizes[i] + 1);
            CHECK_EQUAL(wfpsa_enumeration_next(enumeration, batch, &more, &failure), WFPSA_OK);
            CHECK(!more);
            CHECK(same_rows(all, batch));
            CHECK_EQUAL(wfpsa_enumeration_close(enumeration, &failure), WFPSA_OK);
            CHECK_EQUAL(wfpsa_enumeration_close(enumeration, &failure), WFPSA_OK);
            CHECK_EQUAL(wfpsa_enumeration_next(enumeration, batch, &more, &failure), WFPSA_CLOSED);
            wfpsa_enumeration_free(enumeration);
            wfpsa_columns_release(batch);
        }
        wfpsa_columns_release(all);
    }
    end_session(session);
    wfpsa_store_release(store);
}

static void
subnets_select_the_same_whether_the_engine_or_this_library_filters(void)
{
    static const uint32_t refusals[] = {(DWORD)FWP_E_NULL_POINTER,      (DWORD)FWP_E_INVALID_NET_MASK,
                                        (DWORD)FWP_E_TYPE_MISMATCH,     (DWORD)FWP_E_NEVER_MATCH,
                                        (DWORD)FWP_E_INVALID_PARAMETER, ERROR_INVALID_PARAMETER,
                                        RPC_X_ENUM_VALUE_OUT_OF_RANGE};
    const struct wfpsa_subnets cases[] = {
        {any, subnet4(0, 0)},
        {any, subnet4(0x0A020000, 16)},
        {any, subnet4(0xC0A80000, 17)},
        {any, subnet4(0xC0A88000, 17)},
        {any, subnet4(0xCB007100, 24)},
        {subnet4(0x0A000003, 32), any},
        {subnet4(0x0A000002, 31), subnet4(0x0A000000, 8)},
        {any, subnet6("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 0)},
        {any, subnet6("\x20\x01\x0D\xB8\0\0\0\0\0\0\0\0\0\0\0\0", 32)},
        {any, subnet6("\xFD\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 9)},
        {subnet6("\x20\x01\x0D\xB8\0\0\0\1\0\0\0\0\0\0\0\2", 128), any},
        {subnet6("\x20\x01\x0D\xB8\0\0\0\1\0\0\0\0\0\0\0\0", 125),
         subnet6("\xFD\x12\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16)},
        {any, subnet4(0xFFFFFFFF, 32)},
    };
    struct wfpsa_store *store = make_store(3000, 1);
    struct wfpsa_session *session = open_session(store);
    uint64_t all = wfpsa_store_count(store), some = 0;
    for (uint32_t version = 0; version <= 1; version++) {
        for (size_t i = 0; i < COUNT(cases); i++) {
            struct wfpsa_columns *pushed, *filtered;
            struct wfpsa_failure failure;
            CHECK_EQUAL(snapshot(session, version, 100, &cases[i], &pushed, &failure), WFPSA_OK);
            CHECK(wfpsa_store_fail(store, "IPsecSaContextCreateEnumHandle0", 1, refusals[i % COUNT(refusals)]));
            CHECK_EQUAL(snapshot(session, version, 100, &cases[i], &filtered, &failure), WFPSA_OK);
            CHECK_EQUAL(pushed->length, filtered->length);
            CHECK(same_rows(pushed, filtered));
            some += pushed->length > 0 && pushed->length < all;
            wfpsa_columns_release(pushed);
            wfpsa_columns_release(filtered);
        }
    }
    CHECK(some >= 16);
    end_session(session);
    wfpsa_store_release(store);
}

static void
subnets_that_restrict_nothing_keep_half_built_contexts_too(void)
{
    struct wfpsa_subnets nothing = {any, any};
    struct wfpsa_store *store = make_store(3000, 0);
    struct wfpsa_session *session = open_session(store);
    struct wfpsa_columns *all = snapshot_all(session, 1), *batch;
    struct wfpsa_failure failure;
    CHECK_EQUAL(snapshot(session, 1, 100, &nothing, &batch, &failure), WFPSA_OK);
    CHECK(same_rows(all, batch));
    wfpsa_columns_release(batch);
    /* Where the engine refuses even this, either nothing is filtered here or the refusal is reported. */
    CHECK(wfpsa_store_fail(store, "IPsecSaContextCreateEnumHandle0", 1, (DWORD)FWP_E_TYPE_MISMATCH));
    int status = snapshot(session, 1, 100, &nothing, &batch, &failure);
    CHECK(status == WFPSA_CALL_FAILED || (status == WFPSA_OK && same_rows(all, batch)));
    wfpsa_columns_release(batch);
    wfpsa_columns_release(all);
    end_session(session);
    wfpsa_store_release(store);
}

static void
an_enumeration_says_who_filters(void)
{
    struct wfpsa_subnets subnets = {any, subnet4(0x0A020000, 16)}, impossible = {subnet4(0, 0), any};
    struct wfpsa_store *store = make_store(100, 0);
    struct wfpsa_session *session = open_session(store);
    struct wfpsa_enumeration *enumeration;
    struct wfpsa_failure failure;
    struct wfpsa_columns *batch;
    CHECK_EQUAL(wfpsa_enumeration_open(session, 1, 10, &subnets, &enumeration, &failure), WFPSA_OK);
    CHECK(wfpsa_enumeration_pushed_down(enumeration));
    CHECK_EQUAL(wfpsa_enumeration_close(enumeration, &failure), WFPSA_OK);
    wfpsa_enumeration_free(enumeration);
    CHECK(wfpsa_store_fail(store, "IPsecSaContextCreateEnumHandle0", 1, 0x80320027));
    CHECK_EQUAL(wfpsa_enumeration_open(session, 1, 10, &subnets, &enumeration, &failure), WFPSA_OK);
    CHECK(!wfpsa_enumeration_pushed_down(enumeration));
    CHECK_EQUAL(wfpsa_enumeration_close(enumeration, &failure), WFPSA_OK);
    wfpsa_enumeration_free(enumeration);

    impossible.remote = subnet6("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 0); /* the engine calls it NEVER_MATCH */
    CHECK_EQUAL(wfpsa_enumeration_open(session, 1, 10, &impossible, &enumeration, &failure), WFPSA_OK);
    CHECK(!wfpsa_enumeration_pushed_down(enumeration));
    CHECK_EQUAL(wfpsa_enumeration_close(enumeration, &failure), WFPSA_OK);
    wfpsa_enumeration_free(enumeration);
    CHECK_EQUAL(snapshot(session, 1, 10, &impossible, &batch, &failure), WFPSA_OK);
    CHECK_EQUAL(batch->length, 0);
    wfpsa_columns_release(batch);
    end_session(session);
    wfpsa_store_release(store);
}

static void
other_refusals_of_an_enumeration_are_failures(void)
{
    static const uint32_t codes[] = {ERROR_ACCESS_DENIED, TIMEOUT, ABORTED, RPC_S_SERVER_UNAVAILABLE};
    struct wfpsa_subnets subnets = {any, subnet4(0x0A020000, 16)};
    struct wfpsa_store *store = make_store(10, 0);
    struct wfpsa_session *session = open_session(store);
    for (size_t i = 0; i < COUNT(codes); i++) {
        struct wfpsa_enumeration *enumeration;
        struct wfpsa_failure failure;
        CHECK(wfpsa_store_fail(store, "IPsecSaContextCreateEnumHandle0", 1, codes[i]));
        int status = wfpsa_enumeration_open(session, 1, 10, &subnets, &enumeration, &failure);
        CHECK_FAILURE(status, failure, codes[i], "IPsecSaContextCreateEnumHandle0");
        CHECK(enumeration == NULL);
    }
    for (size_t i = 0; i < 2; i++) { /* a refusal of the template without one is a failure too */
        struct wfpsa_enumeration *enumeration;
        struct wfpsa_failure failure;
        CHECK(wfpsa_store_fail(store, "IPsecSaContextCreateEnumHandle0", 1, 0x80320027));
        int status = wfpsa_enumeration_open(session, 1, 10, NULL, &enumeration, &failure);
        CHECK_FAILURE(status, failure, 0x80320027, "IPsecSaContextCreateEnumHandle0");
        CHECK(enumeration == NULL);
    }
    end_session(session);
    wfpsa_store_release(store);
}

static void
a_failure_on_any_page_is_reported_and_the_next_try_goes_on(void)
{
    static const char *const functions[2] = {"IPsecSaContextEnum0", "IPsecSaContextEnum1"};
    struct wfpsa_store *store = make_store(95, 1);
    struct wfpsa_session *session = open_session(store);
    for (uint32_t version = 0; version <= 1; version++) {
        struct wfpsa_columns *all = snapshot_all(session, version);
        for (uint64_t nth = 1; nth <= 10; nth++) {
            struct wfpsa_columns *batch = NULL;
            struct wfpsa_enumeration *enumeration;
            struct wfpsa_failure failure;
            CHECK(wfpsa_store_fail(store, functions[version], nth, TIMEOUT));
            int status = snapshot(session, version, 10, NULL, &batch, &failure);
            CHECK_FAILURE(status, failure, TIMEOUT, functions[version]);
            CHECK(batch == NULL);

            CHECK(wfpsa_store_fail(store, functions[version], nth, TIMEOUT));
            CHECK_EQUAL(wfpsa_enumeration_open(session, version, 10, NULL, &enumeration, &failure), WFPSA_OK);
            batch = wfpsa_columns_new(version);
            for (uint64_t page = 1; page <= 11; page++) {
                int more = 7;
                status = wfpsa_enumeration_next(enumeration, batch, &more, &failure);
                CHECK_EQUAL(status, page == nth ? WFPSA_CALL_FAILED : WFPSA_OK);
                CHECK_EQUAL(more, page != nth && page != 11);
            }
            CHECK(same_rows(all, batch));
            CHECK_EQUAL(wfpsa_enumeration_close(enumeration, &failure), WFPSA_OK);
            wfpsa_enumeration_free(enumeration);
            wfpsa_columns_release(batch);
        }
        wfpsa_columns_release(all);
    }
    end_session(session);
    wfpsa_store_release(store);
}

static void
an_engine_handle_that_could_not_be_destroyed_goes_with_the_session(void)
{
    struct wfpsa_store *store = make_store(10, 0);
    struct wfpsa_session *session = open_session(store);
    struct wfpsa_enumeration *enumeration;
    struct wfpsa_failure failure;
    CHECK_EQUAL(wfpsa_enumeration_open(session, 1, 10, NULL, &enumeration, &failure), WFPSA_OK);
    CHECK(wfpsa_store_fail(store, "IPsecSaContextDestroyEnumHandle0", 1, TIMEOUT));
    int status = wfpsa_enumeration_close(enumeration, &failure);
    CHECK_FAILURE(status, failure, TIMEOUT, "IPsecSaContextDestroyEnumHandle0");
    CHECK_EQUAL(wfpsa_enumeration_close(enumeration, &failure), WFPSA_OK);
    wfpsa_enumeration_free(enumeration);
    end_session(session);
    wfpsa_store_release(store);
}

/* ---- an engine with manners of its own ---- */

enum manner { EMPTY_PAGE_WITH_A_BLOCK, FAILED_PAGE_WITH_A_BLOCK, FAILED_GET_WITH_A_BLOCK };

static enum manner manner;

static DWORD WINAPI
odd_enum1(HANDLE engine, HANDLE handle, UINT32 wanted, IPSEC_SA_CONTEXT1 ***entries, UINT32 *returned)
{
    DWORD code = wfpsa_embedded_backend.sa_context_enum1(engine, handle, wanted, entries, returned);
    if (manner == EMPTY_PAGE_WITH_A_BLOCK) {
        *returned = 0;
        return code;
    }
    return TIMEOUT;
}

static DWORD WINAPI
odd_get1(HANDLE engine, UINT64 id, IPSEC_SA_CONTEXT1 **found)
{
    wfpsa_embedded_backend.sa_context_get_by_id1(engine, id, found);
    return manner == FAILED_GET_WITH_A_BLOCK ? TIMEOUT : 0;
}

static void
whatever_an_engine_hands_out_is_given_back(void)
{
    struct wfpsa_backend backend = wfpsa_embedded_backend;
    struct wfpsa_store *store = make_store(10, 0);
    struct wfpsa_failure failure;
    struct wfpsa_columns *batch;
    struct wfpsa_live live;
    backend.sa_context_enum1 = odd_enum1;
    backend.sa_context_get_by_id1 = odd_get1;
    struct wfpsa_session *plain = open_session(store), *session = open_over(&backend, store);
    struct wfpsa_columns *all = snapshot_all(plain, 1);

    manner = EMPTY_PAGE_WITH_A_BLOCK;
    CHECK_EQUAL(snapshot(session, 1, 100, NULL, &batch, &failure), WFPSA_OK);
    CHECK_EQUAL(batch->length, 0);
    wfpsa_columns_release(batch);
    manner = FAILED_PAGE_WITH_A_BLOCK;
    CHECK_EQUAL(snapshot(session, 1, 5, NULL, &batch, &failure), WFPSA_CALL_FAILED);
    uint64_t count;
    CHECK_EQUAL(wfpsa_session_drain(session, 1, 5, &count, &failure), WFPSA_CALL_FAILED);
    manner = FAILED_GET_WITH_A_BLOCK;
    batch = wfpsa_columns_new(1);
    CHECK_EQUAL(wfpsa_session_get(session, U64(all, context_id, 3), batch, &failure), WFPSA_CALL_FAILED);
    CHECK_EQUAL(batch->length, 0);
    wfpsa_columns_release(batch);
    wfpsa_embedded_live(&live);
    CHECK_EQUAL(live.pages, 0);
    wfpsa_columns_release(all);
    end_session(session);
    end_session(plain);
    wfpsa_store_release(store);
}

/* ---- one context ---- */

static void
get_appends_the_context_and_reports_a_missing_one(void)
{
    static const char *const functions[2] = {"IPsecSaContextGetById0", "IPsecSaContextGetById1"};
    struct wfpsa_store *store = make_store(30, 1);
    struct wfpsa_session *session = open_session(store);
    for (uint32_t version = 0; version <= 1; version++) {
        struct wfpsa_columns *all = snapshot_all(session, version), *batch = wfpsa_columns_new(version);
        struct wfpsa_failure failure;
        for (uint64_t row = 0; row < 30; row++) {
            CHECK_EQUAL(wfpsa_session_get(session, U64(all, context_id, row), batch, &failure), WFPSA_OK);
        }
        CHECK(same_rows(all, batch));
        int status = wfpsa_session_get(session, 1, batch, &failure);
        CHECK_FAILURE(status, failure, 0x80320008, functions[version]);
        CHECK_EQUAL(batch->length, 30);
        wfpsa_columns_release(batch);
        wfpsa_columns_release(all);
    }
    end_session(session);
    wfpsa_store_release(store);
}

static void
delete_removes_the_context_and_reports_a_missing_one(void)
{
    struct wfpsa_store *store = make_store(30, 1);
    struct wfpsa_session *session = open_session(store);
    struct wfpsa_columns *all = snapshot_all(session, 1);
    struct wfpsa_failure failure;
    CHECK_EQUAL(wfpsa_session_delete(session, U64(all, context_id, 4), &failure), WFPSA_OK);
    int status = wfpsa_session_delete(session, U64(all, context_id, 4), &failure);
    CHECK_FAILURE(status, failure, 0x80320008, "IPsecSaContextDeleteById0");
    CHECK_EQUAL(wfpsa_store_count(store), 29);
    wfpsa_columns_release(all);
    end_session(session);
    wfpsa_store_release(store);
}

static void
a_drain_counts_what_there_is(void)
{
    static const uint32_t sizes[] = {1, 13, 100, 500, FOREVER};
    struct wfpsa_store *store = make_store(500, 1);
    struct wfpsa_session *session = open_session(store);
    struct wfpsa_failure failure;
    uint64_t count;
    for (uint32_t version = 0; version <= 1; version++) {
        for (size_t i = 0; i < COUNT(sizes); i++) {
            count = 77;
            CHECK_EQUAL(wfpsa_session_drain(session, version, sizes[i], &count, &failure), WFPSA_OK);
            CHECK_EQUAL(count, 500);
        }
    }
    CHECK(wfpsa_store_fail(store, "IPsecSaContextEnum1", 3, TIMEOUT));
    int status = wfpsa_session_drain(session, 1, 100, &count, &failure);
    CHECK_FAILURE(status, failure, TIMEOUT, "IPsecSaContextEnum1");
    CHECK(wfpsa_store_fail(store, "IPsecSaContextCreateEnumHandle0", 1, TIMEOUT));
    status = wfpsa_session_drain(session, 1, 100, &count, &failure);
    CHECK_FAILURE(status, failure, TIMEOUT, "IPsecSaContextCreateEnumHandle0");
    CHECK(wfpsa_store_fail(store, "IPsecSaContextDestroyEnumHandle0", 1, TIMEOUT));
    status = wfpsa_session_drain(session, 1, 100, &count, &failure);
    CHECK_FAILURE(status, failure, TIMEOUT, "IPsecSaContextDestroyEnumHandle0");
    end_session(session);
    wfpsa_store_release(store);
}

/* ---- the end of a session ---- */

static void
a_closed_session_says_so_to_every_operation(void)
{
    struct wfpsa_store *store = make_store(50, 0);
    struct wfpsa_session *session = open_session(store);
    struct wfpsa_enumeration *open[3], *refused;
    struct wfpsa_failure failure = {0, ""};
    struct wfpsa_columns *batch = wfpsa_columns_new(1);
    uint64_t ids[2] = {1, 2}, done = 0, count;
    uint8_t outcomes[2] = {99, 99};
    uint32_t codes[2] = {99, 99};
    int more, lost;
    struct wfpsa_live live;
    for (size_t i = 0; i < COUNT(open); i++) {
        CHECK_EQUAL(wfpsa_enumeration_open(session, 1, 10, NULL, &open[i], &failure), WFPSA_OK);
    }
    CHECK_EQUAL(wfpsa_enumeration_next(open[1], batch, &more, &failure), WFPSA_OK);
    CHECK_EQUAL(wfpsa_session_close(session, &failure), WFPSA_OK);
    wfpsa_embedded_live(&live);
    CHECK_EQUAL(live.engines, 0);
    CHECK_EQUAL(live.enum_handles, 0);

    CHECK_EQUAL(wfpsa_session_close(session, &failure), WFPSA_OK);
    CHECK_EQUAL(wfpsa_session_get(session, 1, batch, &failure), WFPSA_CLOSED);
    CHECK_EQUAL(wfpsa_session_delete(session, 1, &failure), WFPSA_CLOSED);
    CHECK_EQUAL(wfpsa_enumeration_open(session, 1, 10, NULL, &refused, &failure), WFPSA_CLOSED);
    CHECK(refused == NULL);
    CHECK_EQUAL(wfpsa_enumeration_next(open[1], batch, &more, &failure), WFPSA_CLOSED);
    CHECK(!more);
    CHECK_EQUAL(wfpsa_session_drain(session, 1, 10, &count, &failure), WFPSA_CLOSED);
    CHECK_EQUAL(wfpsa_session_expire(session, ids, 2, 1000, &done, outcomes, codes, &lost), WFPSA_CLOSED);
    CHECK(done == 0 && outcomes[0] == 99 && codes[0] == 99 && !lost);
    for (size_t i = 0; i < COUNT(open); i++) {
        CHECK_EQUAL(wfpsa_enumeration_close(open[i], &failure), WFPSA_OK);
        wfpsa_enumeration_free(open[i]);
    }
    CHECK_EQUAL(failure.code, 0); /* nothing failed */
    wfpsa_session_free(session);
    wfpsa_columns_release(batch);
    wfpsa_store_release(store);
}

static void
a_failing_close_is_reported_once_and_the_session_is_closed(void)
{
    struct wfpsa_store *store = make_store(5, 0);
    struct wfpsa_session *session = open_session(store);
    struct wfpsa_failure failure;
    CHECK(wfpsa_store_fail(store, "FwpmEngineClose0", 1, RPC_S_CALL_FAILED));
    int status = wfpsa_session_close(session, &failure);
    CHECK_FAILURE(status, failure, RPC_S_CALL_FAILED, "FwpmEngineClose0");
    CHECK_EQUAL(wfpsa_session_close(session, &failure), WFPSA_OK);
    CHECK_EQUAL(wfpsa_session_delete(session, 1, &failure), WFPSA_CLOSED);
    wfpsa_session_free(session);
    wfpsa_store_release(store);
}

static void
an_enumeration_in_the_middle_of_the_list_can_end_first(void)
{
    static const size_t order[] = {1, 3, 0, 2};
    struct wfpsa_store *store = make_store(5, 0);
    struct wfpsa_session *session = open_session(store);
    struct wfpsa_enumeration *open[4];
    struct wfpsa_failure failure;
    for (size_t i = 0; i < COUNT(open); i++) {
        CHECK_EQUAL(wfpsa_enumeration_open(session, 1, 10, NULL, &open[i], &failure), WFPSA_OK);
    }
    for (size_t i = 0; i < COUNT(open); i++) {
        struct wfpsa_live live;
        CHECK_EQUAL(wfpsa_enumeration_close(open[order[i]], &failure), WFPSA_OK);
        wfpsa_enumeration_free(open[order[i]]);
        wfpsa_embedded_live(&live);
        CHECK_EQUAL(live.enum_handles, 3 - i);
    }
    end_session(session);
    wfpsa_store_release(store);
}

#ifndef _WIN32
static void
a_forked_child_is_told_so_and_touches_nothing(void)
{
    struct wfpsa_store *store = make_store(50, 0);
    struct wfpsa_session *session = open_session(store);
    struct wfpsa_enumeration *enumeration, *refused;
    struct wfpsa_failure failure = {0, ""};
    struct wfpsa_columns *batch = wfpsa_columns_new(1);
    int more, exited = 0;
    CHECK_EQUAL(wfpsa_enumeration_open(session, 1, 10, NULL, &enumeration, &failure), WFPSA_OK);
    CHECK_EQUAL(wfpsa_enumeration_next(enumeration, batch, &more, &failure), WFPSA_OK);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        uint64_t ids[1] = {1}, done = 0, count;
        uint8_t outcomes[1];
        uint32_t codes[1];
        int lost;
        struct wfpsa_live live;
        checks_failed = 0;
        CHECK_EQUAL(wfpsa_session_get(session, 1, batch, &failure), WFPSA_FORKED);
        CHECK_EQUAL(wfpsa_session_delete(session, 1, &failure), WFPSA_FORKED);
        CHECK_EQUAL(wfpsa_enumeration_open(session, 1, 10, NULL, &refused, &failure), WFPSA_FORKED);
        CHECK_EQUAL(wfpsa_enumeration_next(enumeration, batch, &more, &failure), WFPSA_FORKED);
        CHECK_EQUAL(wfpsa_session_drain(session, 1, 10, &count, &failure), WFPSA_FORKED);
        CHECK_EQUAL(wfpsa_session_expire(session, ids, 1, 1000, &done, outcomes, codes, &lost), WFPSA_FORKED);
        CHECK_EQUAL(done, 0);
        CHECK_EQUAL(wfpsa_enumeration_close(enumeration, &failure), WFPSA_OK);
        wfpsa_enumeration_free(enumeration);
        CHECK_EQUAL(wfpsa_session_close(session, &failure), WFPSA_OK);
        wfpsa_session_free(session);
        wfpsa_store_release(store);
        wfpsa_embedded_live(&live);
        CHECK(live.engines == 1 && live.enum_handles == 1 && live.stores == 1); /* the parent's, still */
        CHECK_EQUAL(batch->length, 10);                                         /* what it had is its own */
        wfpsa_columns_release(batch);
        _exit(checks_failed != 0);
    }
    CHECK(child > 0 && waitpid(child, &exited, 0) == child && WIFEXITED(exited));
    CHECK_EQUAL(WEXITSTATUS(exited), 0);
    CHECK_EQUAL(wfpsa_enumeration_next(enumeration, batch, &more, &failure), WFPSA_OK); /* and the parent goes on */
    CHECK_EQUAL(batch->length, 20);
    CHECK_EQUAL(wfpsa_enumeration_close(enumeration, &failure), WFPSA_OK);
    wfpsa_enumeration_free(enumeration);
    wfpsa_columns_release(batch);
    end_session(session);
    wfpsa_store_release(store);
}
#endif

/* ---- expiry in mass ---- */

static void
every_id_gets_its_outcome_and_code(void)
{
    struct wfpsa_store *store = make_store(40, 0);
    struct wfpsa_session *session = open_session(store);
    struct wfpsa_columns *all = snapshot_all(session, 0);
    uint64_t ids[42], done = 0;
    uint8_t outcomes[42];
    uint32_t codes[42];
    int lost = 7;
    wfpsa_store_clock(store, 1);
    memcpy(ids, all->columns[WFPSA_COLUMN_context_id], 40 * sizeof *ids);
    ids[40] = 1;
    ids[41] = UINT64_MAX;
    CHECK(wfpsa_store_fail(store, "IPsecSaContextExpire0", 4, TIMEOUT));
    CHECK_EQUAL(wfpsa_session_expire(session, ids, 42, 60000, &done, outcomes, codes, &lost), WFPSA_OK);
    CHECK_EQUAL(done, 42);
    CHECK(!lost);
    for (size_t i = 0; i < 42; i++) {
        CHECK_EQUAL(outcomes[i], i == 3 ? WFPSA_FAILED : i >= 40 ? WFPSA_ALREADY_GONE : WFPSA_EXPIRED);
        CHECK_EQUAL(codes[i], i == 3 ? TIMEOUT : i >= 40 ? 0x80320008 : 0);
    }
    wfpsa_store_advance(store, 60000);
    CHECK_EQUAL(wfpsa_store_count(store), 1);
    CHECK_EQUAL(wfpsa_session_expire(session, ids, 42, 60000, &done, outcomes, codes, &lost), WFPSA_OK);
    CHECK_EQUAL(done, 42); /* nothing was left to do */
    wfpsa_columns_release(all);
    end_session(session);
    wfpsa_store_release(store);
}

static void
a_session_without_the_right_is_denied_each_id(void)
{
    struct wfpsa_store *store = make_store(10, 0);
    wfpsa_store_rights(store, WFPSA_RIGHTS_READ_ONLY);
    struct wfpsa_session *session = open_session(store);
    struct wfpsa_columns *all = snapshot_all(session, 0);
    uint64_t done = 0;
    uint8_t outcomes[10];
    uint32_t codes[10];
    int lost;
    CHECK_EQUAL(
        wfpsa_session_expire(session, all->columns[WFPSA_COLUMN_context_id], 10, 60000, &done, outcomes, codes, &lost),
        WFPSA_OK);
    CHECK(done == 10 && !lost);
    for (size_t i = 0; i < 10; i++) {
        CHECK_EQUAL(outcomes[i], WFPSA_DENIED);
        CHECK_EQUAL(codes[i], ERROR_ACCESS_DENIED);
    }
    CHECK_EQUAL(wfpsa_store_count(store), 10);
    wfpsa_columns_release(all);
    end_session(session);
    wfpsa_store_release(store);
}

static void
a_lost_session_stops_the_expiry_and_leaves_the_rest_unattempted(void)
{
    static const uint32_t losses[] = {ABORTED,
                                      ERROR_INVALID_HANDLE,
                                      RPC_S_INVALID_BINDING,
                                      RPC_S_CALL_FAILED,
                                      RPC_S_CALL_FAILED_DNE,
                                      RPC_S_SERVER_UNAVAILABLE,
                                      RPC_X_SS_CONTEXT_DAMAGED};
    struct wfpsa_store *store = make_store(100, 0);
    struct wfpsa_session *session = open_session(store);
    struct wfpsa_columns *all = snapshot_all(session, 0);
    const uint64_t *ids = all->columns[WFPSA_COLUMN_context_id];
    wfpsa_store_clock(store, 1);
    for (size_t i = 0; i < COUNT(losses); i++) {
        uint64_t done = 10 * i;
        uint8_t outcomes[100];
        uint32_t codes[100];
        int lost;
        memset(outcomes, WFPSA_NOT_ATTEMPTED, sizeof outcomes);
        CHECK(wfpsa_store_fail(store, "IPsecSaContextExpire0", 3, losses[i]));
        CHECK_EQUAL(wfpsa_session_expire(session, ids, 100, 60000, &done, outcomes, codes, &lost), WFPSA_OK);
        CHECK(lost);
        CHECK_EQUAL(done, 10 * i + 3);
        for (size_t at = 0; at < 100; at++) {
            CHECK_EQUAL(outcomes[at], at == 10 * i + 2            ? WFPSA_FAILED
                                      : at >= 10 * i && at < done ? WFPSA_EXPIRED
                                                                  : WFPSA_NOT_ATTEMPTED);
        }
        CHECK_EQUAL(codes[done - 1], losses[i]);
    }
    wfpsa_columns_release(all);
    end_session(session);
    wfpsa_store_release(store);
}

static void
a_slice_does_at_least_one_id_and_the_next_goes_on_from_there(void)
{
    struct wfpsa_store *store = make_store(20, 0);
    struct wfpsa_session *session = open_session(store);
    struct wfpsa_columns *all = snapshot_all(session, 0);
    const uint64_t *ids = all->columns[WFPSA_COLUMN_context_id];
    uint64_t done = 0, slices = 0;
    uint8_t outcomes[20];
    uint32_t codes[20];
    int lost;
    memset(outcomes, 99, sizeof outcomes);
    while (done < 20) {
        uint64_t before = done;
        CHECK_EQUAL(wfpsa_session_expire(session, ids, 20, 0, &done, outcomes, codes, &lost), WFPSA_OK);
        CHECK_EQUAL(done, before + 1);
        CHECK_EQUAL(outcomes[before], WFPSA_EXPIRED);
        CHECK(done == 20 || outcomes[done] == 99);
        slices++;
    }
    CHECK_EQUAL(slices, 20);
    done = 0;
    CHECK_EQUAL(wfpsa_session_expire(session, ids, 0, 0, &done, outcomes, codes, &lost), WFPSA_OK);
    CHECK_EQUAL(done, 0);
    wfpsa_store_latency(store, 20000000, 0); /* 20 ms a call: a slice of 30 ends after a few of them */
    CHECK_EQUAL(wfpsa_session_expire(session, ids, 20, 30, &done, outcomes, codes, &lost), WFPSA_OK);
    CHECK(done >= 1 && done < 20);
    wfpsa_columns_release(all);
    end_session(session);
    wfpsa_store_release(store);
}

static void
an_endless_slice_goes_to_the_end(void)
{
    struct wfpsa_store *store = make_store(20, 0);
    struct wfpsa_session *session = open_session(store);
    struct wfpsa_columns *all = snapshot_all(session, 0);
    uint64_t done = 0;
    uint8_t outcomes[20];
    uint32_t codes[20];
    int lost;
    CHECK_EQUAL(wfpsa_session_expire(session, all->columns[WFPSA_COLUMN_context_id], 20, UINT64_MAX, &done, outcomes,
                                     codes, &lost),
                WFPSA_OK);
    CHECK_EQUAL(done, 20);
    wfpsa_columns_release(all);
    end_session(session);
    wfpsa_store_release(store);
}

/* ---- threads ---- */

/* What a thread does over and over until the session is closed, and what went wrong in it. */
struct worker {
    struct wfpsa_thread thread;
    struct wfpsa_session *session;
    const struct wfpsa_columns *all;
    volatile int64_t *rounds;
    uint64_t mistakes;
};

/* 1 when the worker is to end. */
static int
worker_ends(struct worker *worker, int status)
{
    worker->mistakes += status != WFPSA_OK && status != WFPSA_CLOSED;
    wfpsa_atomic_add(worker->rounds, 1);
    return status != WFPSA_OK;
}

static void
enumerate_until_closed(void *argument)
{
    struct worker *worker = argument;
    int status;
    do {
        struct wfpsa_columns *batch;
        struct wfpsa_failure failure;
        status = snapshot(worker->session, worker->rounds[0] % 2 ? 1 : 0, 64, NULL, &batch, &failure);
        worker->mistakes += batch && (batch->length != worker->all->length || !is_sound(batch));
        wfpsa_columns_release(batch);
    } while (!worker_ends(worker, status));
}

static void
get_until_closed(void *argument)
{
    struct worker *worker = argument;
    uint64_t row = 0;
    int status;
    do {
        struct wfpsa_columns *batch = wfpsa_columns_new(1);
        struct wfpsa_failure failure;
        status = wfpsa_session_get(worker->session, U64(worker->all, context_id, row), batch, &failure);
        worker->mistakes += status == WFPSA_OK && U64(batch, context_id, 0) != U64(worker->all, context_id, row);
        row = (row + 1) % worker->all->length;
        wfpsa_columns_release(batch);
    } while (!worker_ends(worker, status));
}

static void
drain_until_closed(void *argument)
{
    struct worker *worker = argument;
    int status;
    do {
        uint64_t count;
        struct wfpsa_failure failure;
        status = wfpsa_session_drain(worker->session, 1, 50, &count, &failure);
        worker->mistakes += status == WFPSA_OK && count != worker->all->length;
    } while (!worker_ends(worker, status));
}

static void
expire_until_closed(void *argument)
{
    struct worker *worker = argument;
    int status;
    do { /* ids that are not there: the contents stay as they are */
        uint64_t ids[50] = {0}, done = 0;
        uint8_t outcomes[50];
        uint32_t codes[50];
        int lost;
        status = wfpsa_session_expire(worker->session, ids, 50, 10, &done, outcomes, codes, &lost);
        worker->mistakes += (status == WFPSA_OK ? done == 0 : done != 0) || lost;
        for (uint64_t i = 0; i < done; i++) {
            worker->mistakes += outcomes[i] != WFPSA_ALREADY_GONE;
        }
    } while (!worker_ends(worker, status));
}

static void
closing_waits_for_the_call_in_flight_and_ends_every_thread(void)
{
    static void (*const works[])(void *) = {enumerate_until_closed, get_until_closed, drain_until_closed,
                                            expire_until_closed, enumerate_until_closed};
    for (int repeat = 0; repeat < 5; repeat++) {
        struct wfpsa_store *store = make_store(300, 1);
        struct wfpsa_session *session = open_session(store);
        struct wfpsa_columns *all = snapshot_all(session, 1);
        struct worker workers[COUNT(works)];
        struct wfpsa_failure failure;
        volatile int64_t rounds[COUNT(works)] = {0};
        for (size_t i = 0; i < COUNT(works); i++) {
            workers[i].session = session;
            workers[i].all = all;
            workers[i].rounds = &rounds[i];
            workers[i].mistakes = 0;
            thread_start(&workers[i].thread, works[i], &workers[i]);
        }
        for (size_t i = 0; i < COUNT(works); i++) { /* every one has been served: nobody is overtaken for ever */
            while (wfpsa_atomic_load(&rounds[i]) < 2) {
                wfpsa_sleep_ns(100000);
            }
        }
        CHECK_EQUAL(wfpsa_session_close(session, &failure), WFPSA_OK);
        for (size_t i = 0; i < COUNT(works); i++) {
            wfpsa_thread_join(&workers[i].thread);
            CHECK_EQUAL(workers[i].mistakes, 0);
        }
        struct wfpsa_live live;
        wfpsa_embedded_live(&live);
        CHECK(live.engines == 0 && live.enum_handles == 0 && live.pages == 0);
        wfpsa_columns_release(all);
        wfpsa_session_free(session);
        wfpsa_store_release(store);
    }
}

static void
close_it(void *argument)
{
    struct wfpsa_failure failure;
    struct worker *worker = argument;
    worker->mistakes += wfpsa_session_close(worker->session, &failure) != WFPSA_OK;
}

/* A page that is not answered until the test says so. */
static volatile int64_t page_begun, page_released, enumeration_ended;

static DWORD WINAPI
held_enum1(HANDLE engine, HANDLE handle, UINT32 wanted, IPSEC_SA_CONTEXT1 ***entries, UINT32 *returned)
{
    wfpsa_atomic_add(&page_begun, 1);
    while (!wfpsa_atomic_load(&page_released)) {
        wfpsa_sleep_ns(100000);
    }
    return wfpsa_embedded_backend.sa_context_enum1(engine, handle, wanted, entries, returned);
}

static void
drain_it(void *argument)
{
    struct worker *worker = argument;
    uint64_t count;
    struct wfpsa_failure failure;
    int status = wfpsa_session_drain(worker->session, 1, 1000, &count, &failure);
    worker->mistakes += status != WFPSA_OK;
}

static void
end_enumeration(void *argument)
{
    struct wfpsa_failure failure;
    struct wfpsa_enumeration *enumeration = argument;
    wfpsa_enumeration_close(enumeration, &failure);
    wfpsa_enumeration_free(enumeration);
    wfpsa_atomic_add(&enumeration_ended, 1);
}

static void
an_enumeration_may_end_while_the_session_waits_to_close(void)
{
    struct wfpsa_backend backend = wfpsa_embedded_backend;
    backend.sa_context_enum1 = held_enum1;
    struct wfpsa_store *store = make_store(10, 0);
    struct wfpsa_session *session = open_over(&backend, store);
    struct wfpsa_enumeration *enumeration;
    struct wfpsa_failure failure;
    struct worker drainer, closer;
    struct wfpsa_thread ender;
    drainer.session = closer.session = session;
    drainer.mistakes = closer.mistakes = 0;
    CHECK_EQUAL(wfpsa_enumeration_open(session, 1, 10, NULL, &enumeration, &failure), WFPSA_OK);
    thread_start(&drainer.thread, drain_it, &drainer); /* has the session's lock */
    while (!wfpsa_atomic_load(&page_begun)) {
        wfpsa_sleep_ns(100000);
    }
    thread_start(&closer.thread, close_it, &closer); /* waits for it */
    while (!wfpsa_atomic_load(&session->closing)) {
        wfpsa_sleep_ns(100000);
    }
    thread_start(&ender, end_enumeration, enumeration);
    for (int i = 0; i < 200 && !wfpsa_atomic_load(&enumeration_ended); i++) {
        wfpsa_sleep_ns(100000); /* room to be wrong in: it must wait, or have left the session's list */
    }
    wfpsa_atomic_add(&page_released, 1);
    wfpsa_thread_join(&ender);
    wfpsa_thread_join(&closer.thread);
    wfpsa_thread_join(&drainer.thread);
    CHECK_EQUAL(closer.mistakes, 0);
    CHECK_EQUAL(drainer.mistakes, 0); /* its one page was in flight: that call was waited for */
    wfpsa_session_free(session);
    wfpsa_store_release(store);
}

static void
an_expiry_stops_early_when_another_thread_closes(void)
{
    struct wfpsa_store *store = make_store(1000, 0);
    struct wfpsa_session *session = open_session(store);
    struct wfpsa_columns *all = snapshot_all(session, 0);
    struct worker closer;
    uint64_t done = 0;
    uint8_t outcomes[1000];
    uint32_t codes[1000];
    int lost;
    closer.session = session;
    closer.mistakes = 0;
    wfpsa_store_latency(store, 10000000, 0); /* 10 s for all of them */
    thread_start(&closer.thread, close_it, &closer);
    int status = wfpsa_session_expire(session, all->columns[WFPSA_COLUMN_context_id], 1000, 600000, &done, outcomes,
                                      codes, &lost);
    wfpsa_thread_join(&closer.thread);
    CHECK(status == WFPSA_OK || (status == WFPSA_CLOSED && done == 0)); /* whoever came first */
    CHECK(done < 1000);
    for (uint64_t i = 0; i < done; i++) {
        CHECK_EQUAL(outcomes[i], WFPSA_EXPIRED);
    }
    CHECK_EQUAL(closer.mistakes, 0);
    wfpsa_columns_release(all);
    wfpsa_session_free(session);
    wfpsa_store_release(store);
}

static void
threads_that_close_at_once_close_once(void)
{
    struct wfpsa_store *store = make_store(100, 0);
    struct wfpsa_session *session = open_session(store);
    struct worker closers[4];
    for (size_t i = 0; i < COUNT(closers); i++) {
        closers[i].session = session;
        closers[i].mistakes = 0;
        thread_start(&closers[i].thread, close_it, &closers[i]);
    }
    for (size_t i = 0; i < COUNT(closers); i++) {
        wfpsa_thread_join(&closers[i].thread);
        CHECK_EQUAL(closers[i].mistakes, 0);
    }
    wfpsa_session_free(session);
    wfpsa_store_release(store);
}

/* A part of the ids, expired and deleted over a session of the thread's own while others enumerate. */
struct churner {
    struct wfpsa_thread thread;
    struct wfpsa_store *store;
    const uint64_t *ids;
    uint64_t count, expired, mistakes;
};

static void
churn(void *argument)
{
    struct churner *churner = argument;
    struct wfpsa_session *session = NULL;
    struct wfpsa_failure failure;
    uint64_t done = 0;
    uint8_t outcomes[500];
    uint32_t codes[500];
    int lost;
    churner->mistakes += wfpsa_session_open(&wfpsa_embedded_backend, wfpsa_store_name(churner->store), 0, &session,
                                            &failure) != WFPSA_OK;
    while (done < churner->count) {
        churner->mistakes +=
            wfpsa_session_expire(session, churner->ids, churner->count, 1, &done, outcomes, codes, &lost) != WFPSA_OK;
        wfpsa_store_advance(churner->store, 1000);
        churner->mistakes += !wfpsa_store_seed(churner->store, 3, done, 1);
    }
    for (uint64_t i = 0; i < done; i++) {
        churner->expired += outcomes[i] == WFPSA_EXPIRED;
    }
    churner->mistakes += wfpsa_session_close(session, &failure) != WFPSA_OK;
    wfpsa_session_free(session);
}

/* Each enumeration sees whole contexts, each id once, and all of those that nobody touches. */
static void
watch(void *argument)
{
    struct churner *watcher = argument;
    struct wfpsa_session *session = NULL;
    struct wfpsa_failure failure;
    watcher->mistakes += wfpsa_session_open(&wfpsa_embedded_backend, wfpsa_store_name(watcher->store), 0, &session,
                                            &failure) != WFPSA_OK;
    for (int round = 0; round < 20; round++) {
        struct wfpsa_columns *batch;
        if (snapshot(session, round % 2 ? 1 : 0, 100, NULL, &batch, &failure) != WFPSA_OK) {
            watcher->mistakes++;
            continue;
        }
        uint64_t found = 0;
        for (uint64_t row = 0; row < batch->length; row++) {
            uint64_t id = U64(batch, context_id, row);
            for (uint64_t i = 0; i < watcher->count; i++) {
                found += watcher->ids[i] == id;
            }
        }
        watcher->mistakes += found != watcher->count || !is_sound(batch);
        wfpsa_columns_release(batch);
    }
    watcher->mistakes += wfpsa_session_close(session, &failure) != WFPSA_OK;
    wfpsa_session_free(session);
}

static void
sessions_enumerate_while_others_expire_and_seed(void)
{
    enum { CONTEXTS = 1600, EACH = 500, UNTOUCHED = 100 };
    struct wfpsa_store *store = make_store(CONTEXTS, 1);
    struct wfpsa_session *session = open_session(store);
    struct wfpsa_columns *all = snapshot_all(session, 0);
    const uint64_t *ids = all->columns[WFPSA_COLUMN_context_id];
    struct churner churners[5];
    wfpsa_store_clock(store, 1);
    for (size_t i = 0; i < COUNT(churners); i++) {
        struct churner start = {.store = store, .ids = ids + (i < 3 ? i * EACH : 3 * EACH)};
        churners[i] = start;
        churners[i].count = i < 3 ? EACH : UNTOUCHED;
    }
    for (size_t i = 0; i < COUNT(churners); i++) {
        thread_start(&churners[i].thread, i < 3 ? churn : watch, &churners[i]);
    }
    for (size_t i = 0; i < COUNT(churners); i++) {
        wfpsa_thread_join(&churners[i].thread);
        CHECK_EQUAL(churners[i].mistakes, 0);
        CHECK_EQUAL(churners[i].expired, i < 3 ? EACH : 0);
    }
    wfpsa_columns_release(all);
    end_session(session);
    wfpsa_store_release(store);
}

static void
share_a_batch(void *argument)
{
    struct worker *worker = argument;
    struct wfpsa_columns *batch = (struct wfpsa_columns *)worker->all;
    for (int i = 0; i < 200; i++) {
        wfpsa_columns_retain(batch);
        struct wfpsa_columns *taken = wfpsa_take(batch, 0, 1, NULL, batch->length);
        worker->mistakes += !taken || !wfpsa_rows_equal(taken, 3, batch, 3, NULL);
        wfpsa_columns_release(taken);
        wfpsa_columns_release(batch);
    }
    wfpsa_columns_release(batch); /* the share it was given */
}

static void
a_frozen_batch_is_shared_between_threads(void)
{
    struct wfpsa_store *store = make_store(50, 0);
    struct wfpsa_session *session = open_session(store);
    struct wfpsa_columns *all = snapshot_all(session, 1);
    struct worker workers[4];
    for (size_t i = 0; i < COUNT(workers); i++) {
        workers[i].all = all;
        workers[i].mistakes = 0;
        wfpsa_columns_retain(all);
        thread_start(&workers[i].thread, share_a_batch, &workers[i]);
    }
    wfpsa_columns_release(all); /* the last thread frees it */
    for (size_t i = 0; i < COUNT(workers); i++) {
        wfpsa_thread_join(&workers[i].thread);
        CHECK_EQUAL(workers[i].mistakes, 0);
    }
    end_session(session);
    wfpsa_store_release(store);
}

/* ---- subscriptions ---- */

static struct wfpsa_subscription *
subscribe(struct wfpsa_session *session)
{
    struct wfpsa_subscription *subscription = NULL;
    struct wfpsa_failure failure = {0, ""};
    CHECK_EQUAL(wfpsa_subscription_open(session, NULL, 16, &subscription, &failure), WFPSA_OK);
    return subscription;
}

/* Waits, then takes. */
static int
take_within(struct wfpsa_subscription *subscription, uint64_t wait_ms, struct wfpsa_event *events, uint32_t room,
            uint32_t *taken, uint64_t *lost)
{
    int status = wfpsa_subscription_wait(subscription, wait_ms);
    return status == WFPSA_OK ? wfpsa_subscription_take(subscription, events, room, taken, lost) : status;
}

static void
a_subscription_that_could_not_be_ended_goes_with_the_session(void)
{
    struct wfpsa_store *store = make_store(5, 0);
    struct wfpsa_session *session = open_session(store);
    struct wfpsa_subscription *kept = subscribe(session), *dropped = subscribe(session);
    struct wfpsa_failure failure = {0, ""};
    struct wfpsa_event event;
    uint32_t taken = 0;
    uint64_t lost = 0;
    CHECK_EQUAL(wfpsa_session_transaction(session, WFPSA_BEGIN, &failure), WFPSA_OK);
    CHECK_EQUAL(wfpsa_subscription_close(kept, &failure), WFPSA_CALL_FAILED);
    CHECK_EQUAL(failure.code, 0x8032000Eu);
    CHECK_EQUAL(wfpsa_subscription_close(dropped, &failure), WFPSA_CALL_FAILED);
    wfpsa_subscription_free(dropped); /* the engine calls back into it still */
    CHECK_EQUAL(wfpsa_session_transaction(session, WFPSA_COMMIT, &failure), WFPSA_OK);
    CHECK(wfpsa_store_seed(store, 100, 3, 0));
    CHECK_EQUAL(take_within(kept, 60000, &event, 1, &taken, &lost), WFPSA_OK);
    CHECK_EQUAL(taken, 1);
    CHECK_EQUAL(wfpsa_session_transaction(session, WFPSA_BEGIN, &failure), WFPSA_OK); /* and the end is refused too */
    CHECK_EQUAL(wfpsa_session_close(session, &failure), WFPSA_OK);
    while (take_within(kept, 0, &event, 1, &taken, &lost) == WFPSA_OK) {
    }
    CHECK_EQUAL(wfpsa_subscription_close(kept, &failure), WFPSA_OK);
    wfpsa_subscription_free(kept);
    wfpsa_session_free(session);
    wfpsa_store_release(store);
}

static void
drop_subscriptions(void *argument)
{
    struct wfpsa_subscription **subscriptions = argument;
    struct wfpsa_failure failure;
    for (size_t i = 0; i < 8; i++) {
        wfpsa_subscription_close(subscriptions[i], &failure);
        wfpsa_subscription_free(subscriptions[i]);
    }
}

static void
subscriptions_may_be_dropped_while_their_session_closes(void)
{
    for (int turn = 0; turn < 20; turn++) {
        struct wfpsa_store *store = make_store(5, 0);
        struct wfpsa_session *session = open_session(store);
        struct wfpsa_subscription *subscriptions[8];
        struct wfpsa_failure failure;
        struct wfpsa_thread thread;
        for (size_t i = 0; i < COUNT(subscriptions); i++) {
            subscriptions[i] = subscribe(session);
        }
        CHECK(wfpsa_store_seed(store, 50, 3, 0)); /* whose events are on their way */
        thread_start(&thread, drop_subscriptions, subscriptions);
        CHECK_EQUAL(wfpsa_session_close(session, &failure), WFPSA_OK);
        wfpsa_thread_join(&thread);
        wfpsa_session_free(session);
        wfpsa_store_release(store);
    }
}

int
main(void)
{
    RUN(opening_reports_the_call_that_failed);
    RUN(opening_asks_for_the_lock_wait_and_nothing_else);
    RUN(an_enumeration_fetches_page_by_page_to_the_end);
    RUN(subnets_select_the_same_whether_the_engine_or_this_library_filters);
    RUN(subnets_that_restrict_nothing_keep_half_built_contexts_too);
    RUN(an_enumeration_says_who_filters);
    RUN(other_refusals_of_an_enumeration_are_failures);
    RUN(a_failure_on_any_page_is_reported_and_the_next_try_goes_on);
    RUN(an_engine_handle_that_could_not_be_destroyed_goes_with_the_session);
    RUN(whatever_an_engine_hands_out_is_given_back);
    RUN(get_appends_the_context_and_reports_a_missing_one);
    RUN(delete_removes_the_context_and_reports_a_missing_one);
    RUN(a_drain_counts_what_there_is);
    RUN(a_closed_session_says_so_to_every_operation);
    RUN(a_failing_close_is_reported_once_and_the_session_is_closed);
    RUN(an_enumeration_in_the_middle_of_the_list_can_end_first);
#ifndef _WIN32
    RUN(a_forked_child_is_told_so_and_touches_nothing);
#endif
    RUN(every_id_gets_its_outcome_and_code);
    RUN(a_session_without_the_right_is_denied_each_id);
    RUN(a_lost_session_stops_the_expiry_and_leaves_the_rest_unattempted);
    RUN(a_slice_does_at_least_one_id_and_the_next_goes_on_from_there);
    RUN(an_endless_slice_goes_to_the_end);
    RUN(closing_waits_for_the_call_in_flight_and_ends_every_thread);
    RUN(an_enumeration_may_end_while_the_session_waits_to_close);
    RUN(an_expiry_stops_early_when_another_thread_closes);
    RUN(threads_that_close_at_once_close_once);
    RUN(sessions_enumerate_while_others_expire_and_seed);
    RUN(a_frozen_batch_is_shared_between_threads);
    RUN(a_subscription_that_could_not_be_ended_goes_with_the_session);
    RUN(subscriptions_may_be_dropped_while_their_session_closes);
    return closing_line();
}
