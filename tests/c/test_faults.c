/* A walk through every allocation and every call that can fail: the right status, nothing lost, nothing half done. */
#include "scene.h"

#include <errno.h>

#include "libwfpsa/session.h"

#include "wfpsa/arrow.h"
#include "wfpsa/events.h"
#include "wfpsa/keying.h"

#define CONTEXTS 40
#define TIMEOUT 0x80320012u

/* ---- the scene that operations play in ---- */

struct scene {
    struct wfpsa_store *store;
    struct wfpsa_session *session;
    struct wfpsa_columns *all; /* what there is, of version 1 */
    uint32_t version;
    uint64_t id; /* of a context with both SAs, and with a traffic of its own inbound */
    struct wfpsa_enumeration *open;
    uint64_t made; /* a context that is being keyed */
    uint32_t spi;
};

static void
scene_begin_with(struct scene *scene, uint32_t version, uint64_t count)
{
    struct wfpsa_failure failure;
    memset(scene, 0, sizeof *scene);
    scene->version = version;
    scene->store = empty_store();
    CHECK(wfpsa_store_seed(scene->store, count, 5, 1));
    wfpsa_store_clock(scene->store, 1);
    CHECK_EQUAL(
        wfpsa_session_open(&wfpsa_embedded_backend, wfpsa_store_name(scene->store), 0, &scene->session, &failure),
        WFPSA_OK);
    scene->all = snapshot_all(scene->session, 1);
    uint64_t row = 0;
    while (!(U8(scene->all, has_inbound, row) && U8(scene->all, has_outbound, row))) {
        row++;
    }
    scene->id = U64(scene->all, context_id, row);
}

static void
scene_begin(struct scene *scene, uint32_t version)
{
    scene_begin_with(scene, version, CONTEXTS);
}

static void
scene_end(struct scene *scene)
{
    struct wfpsa_failure failure;
    if (scene->open) {
        CHECK_EQUAL(wfpsa_enumeration_close(scene->open, &failure), WFPSA_OK);
        wfpsa_enumeration_free(scene->open);
    }
    CHECK_EQUAL(wfpsa_session_close(scene->session, &failure), WFPSA_OK);
    wfpsa_session_free(scene->session);
    wfpsa_columns_release(scene->all);
    wfpsa_store_release(scene->store);
}

/* Whether the engine still answers, and has what it had. */
static int
scene_is_untouched(const struct scene *scene)
{
    struct wfpsa_columns *now = snapshot_all(scene->session, 1);
    int same = now && same_rows(scene->all, now);
    wfpsa_columns_release(now);
    return same && wfpsa_store_count(scene->store) == scene->all->length;
}

/* An operation returns its status and has given back all it took; *failure is what a failed call says. */
typedef int (*operation)(struct scene *scene, struct wfpsa_failure *failure);

/* Lets the first, the second, ... allocation of the operation fail until none is left to fail. Returns how many. */
static uint64_t
walk_allocations(struct scene *scene, operation operate, const char *name)
{
    for (uint64_t nth = 1;; nth++) {
        struct wfpsa_live before, after;
        struct wfpsa_failure failure = {0, NULL};
        wfpsa_embedded_live(&before);
        wfpsa_embedded_fail_allocation(nth);
        int status = operate(scene, &failure);
        int struck = failure_struck(nth);
        wfpsa_embedded_live(&after);
        if (!struck) {
            CHECK_EQUAL(status, WFPSA_OK);
            return nth - 1;
        }
        /* The library's own memory, or the engine's: the call then says ERROR_NOT_ENOUGH_MEMORY. */
        int right = CHECK(status == WFPSA_NO_MEMORY || (status == WFPSA_CALL_FAILED &&
                                                        failure.code == ERROR_NOT_ENOUGH_MEMORY && failure.function));
        right &= CHECK_EQUAL(after.stores, before.stores);
        right &= CHECK_EQUAL(after.engines, before.engines);
        right &= CHECK_EQUAL(after.enum_handles, before.enum_handles);
        right &= CHECK_EQUAL(after.pages, before.pages);
        right &= CHECK_EQUAL(after.subscriptions, before.subscriptions);
        right &= CHECK_EQUAL(after.transactions, before.transactions);
        right &= CHECK_EQUAL(after.allocations, before.allocations);
        right &= CHECK(scene_is_untouched(scene));
        if (!right) {
            fprintf(stderr, "%s: allocation %u\n", name, (unsigned)nth);
            return nth;
        }
    }
}

/* Both structure versions; at least `least` allocations must have been walked through. */
static void
walk_both(operation operate, const char *name, uint64_t least)
{
    for (uint32_t version = 0; version <= 1; version++) {
        struct scene scene;
        scene_begin(&scene, version);
        uint64_t walked = walk_allocations(&scene, operate, name);
        if (walked < least) {
            fprintf(stderr, "%s: only %u allocations\n", name, (unsigned)walked);
            CHECK(walked >= least);
        }
        scene_end(&scene);
    }
}

#define WALK(operate, least) walk_both(operate, #operate, least)

/* ---- allocations of operations that change nothing ---- */

static int
open_and_close(struct scene *scene, struct wfpsa_failure *failure)
{
    struct wfpsa_session *session = scene->session;
    int status = wfpsa_session_open(&wfpsa_embedded_backend, wfpsa_store_name(scene->store), 0, &session, failure);
    CHECK_EQUAL(session != NULL, status == WFPSA_OK);
    if (status == WFPSA_OK) {
        status = wfpsa_session_close(session, failure);
        wfpsa_session_free(session);
    }
    return status;
}

static int
open_default(struct scene *scene, struct wfpsa_failure *failure)
{
    struct wfpsa_session *session;
    (void)scene;
    int status = wfpsa_session_open(&wfpsa_embedded_backend, NULL, 0, &session, failure);
    if (status == WFPSA_OK) {
        status = wfpsa_session_close(session, failure);
        wfpsa_session_free(session);
    }
    return status;
}

static int
enumerate(struct scene *scene, struct wfpsa_failure *failure)
{
    struct wfpsa_columns *batch;
    int status = snapshot(scene->session, scene->version, 9, NULL, &batch, failure);
    CHECK_EQUAL(batch != NULL, status == WFPSA_OK);
    CHECK(!batch || same_rows(batch, scene->all));
    wfpsa_columns_release(batch);
    return status;
}

static int
enumerate_a_subnet(struct scene *scene, struct wfpsa_failure *failure)
{
    struct wfpsa_subnets subnets = {{0, 0, {0}}, {4, 4, "\0\0\0\0\0\0\0\0\0\0\xFF\xFF\x00"}};
    struct wfpsa_columns *batch;
    int status = snapshot(scene->session, scene->version, 1, &subnets, &batch, failure);
    wfpsa_columns_release(batch);
    return status;
}

static int
drain(struct scene *scene, struct wfpsa_failure *failure)
{
    uint64_t count = 0;
    int status = wfpsa_session_drain(scene->session, scene->version, 9, &count, failure);
    CHECK(status != WFPSA_OK || count == CONTEXTS);
    return status;
}

static int
get_one(struct scene *scene, struct wfpsa_failure *failure)
{
    struct wfpsa_columns *batch = wfpsa_columns_new(scene->version);
    if (!batch) {
        return WFPSA_NO_MEMORY;
    }
    int status = wfpsa_session_get(scene->session, scene->id, batch, failure);
    CHECK(status != WFPSA_OK || batch->length == 1);
    wfpsa_columns_release(batch);
    return status;
}

static int
subscribe_and_end(struct scene *scene, struct wfpsa_failure *failure)
{
    struct wfpsa_subnets subnets = {{0, 0, {0}}, {4, 4, "\0\0\0\0\0\0\0\0\0\0\xFF\xFF\x00"}};
    struct wfpsa_subscription *subscription;
    int status =
        wfpsa_subscription_open(scene->session, scene->version ? &subnets : NULL, 100, &subscription, failure);
    CHECK_EQUAL(subscription != NULL, status == WFPSA_OK);
    if (status == WFPSA_OK) {
        status = wfpsa_subscription_close(subscription, failure);
        wfpsa_subscription_free(subscription);
    }
    return status;
}

/* The library has no use for the list of subscriptions. */
static int
list_subscriptions(struct wfpsa_session *session, struct wfpsa_failure *failure)
{
    IPSEC_SA_CONTEXT_SUBSCRIPTION0 **list = NULL;
    UINT32 count;
    DWORD code = os->sa_context_subscriptions_get(session->engine, &list, &count);
    CHECK(code == 0 || list == NULL);
    if (code == 0) {
        os->free_memory((void **)&list);
        return WFPSA_OK;
    }
    failure->code = code;
    failure->function = "IPsecSaContextSubscriptionsGet0";
    return WFPSA_CALL_FAILED;
}

static int
list_one_subscription(struct scene *scene, struct wfpsa_failure *failure)
{
    struct wfpsa_subscription *subscription;
    int status = wfpsa_subscription_open(scene->session, NULL, 1, &subscription, failure);
    if (status == WFPSA_OK) {
        struct wfpsa_failure ignored;
        status = list_subscriptions(scene->session, failure);
        CHECK_EQUAL(wfpsa_subscription_close(subscription, &ignored), WFPSA_OK);
        wfpsa_subscription_free(subscription);
    }
    return status;
}

static int
begin_and_commit(struct scene *scene, struct wfpsa_failure *failure)
{
    int status =
        wfpsa_session_transaction(scene->session, scene->version ? WFPSA_BEGIN : WFPSA_BEGIN_READ_ONLY, failure);
    return status == WFPSA_OK ? wfpsa_session_transaction(scene->session, WFPSA_COMMIT, failure) : status;
}

static int
ask_for_statistics(struct scene *scene, struct wfpsa_failure *failure)
{
    struct wfpsa_statistics statistics;
    return wfpsa_session_statistics(scene->session, &statistics, failure);
}

static int
new_batch(struct scene *scene, struct wfpsa_failure *failure)
{
    (void)failure;
    struct wfpsa_columns *batch = wfpsa_columns_new(scene->version);
    wfpsa_columns_release(batch);
    return batch ? WFPSA_OK : WFPSA_NO_MEMORY;
}

static int
take_rows(struct scene *scene, struct wfpsa_failure *failure)
{
    (void)failure;
    struct wfpsa_columns *taken = wfpsa_take(scene->all, CONTEXTS - 1, -1, NULL, CONTEXTS);
    CHECK(!taken || U64(taken, context_id, 0) == U64(scene->all, context_id, CONTEXTS - 1));
    wfpsa_columns_release(taken);
    return taken ? WFPSA_OK : WFPSA_NO_MEMORY;
}

static int
set_names(struct scene *scene, struct wfpsa_failure *failure)
{
    static const int32_t offsets[] = {0, 0, 3};
    (void)failure;
    struct wfpsa_columns *batch = wfpsa_columns_new_rows(scene->version, NULL, 3);
    if (!batch) {
        return WFPSA_NO_MEMORY;
    }
    int status = wfpsa_columns_set_strings(batch, 1, offsets, "abc");
    CHECK_EQUAL(batch->strings.count, status == WFPSA_OK);
    wfpsa_columns_release(batch);
    return status;
}

static int
schema_of(struct scene *scene, struct wfpsa_failure *failure)
{
    struct ArrowSchema schema;
    (void)failure;
    int status = wfpsa_arrow_schema(scene->all, scene->version * 3, &schema);
    if (status == WFPSA_OK) {
        schema.release(&schema);
    }
    return status;
}

static int
export(struct scene *scene, struct wfpsa_failure *failure)
{
    static const char *const *no_names[WFPSA_COLUMN_COUNT];
    struct ArrowArrayStream stream;
    struct ArrowSchema schema;
    struct ArrowArray array;
    (void)failure;
    int status = wfpsa_arrow_stream(scene->all, 1, CONTEXTS - 1, scene->version * 3, no_names, &stream);
    if (status != WFPSA_OK) {
        return status;
    }
    int code = stream.get_schema(&stream, &schema);
    if (code == 0) {
        code = stream.get_next(&stream, &array);
        schema.release(&schema);
        if (code == 0) {
            CHECK_EQUAL(array.length, CONTEXTS - 1);
            array.release(&array);
        }
    }
    CHECK(code == 0 || code == ENOMEM);
    stream.release(&stream);
    return code == 0 ? WFPSA_OK : WFPSA_NO_MEMORY;
}

static int
seed_elsewhere(struct scene *scene, struct wfpsa_failure *failure)
{
    int created;
    (void)failure;
    struct wfpsa_store *store = wfpsa_store_open(NULL, &created);
    if (!store) {
        return WFPSA_NO_MEMORY;
    }
    int seeded = wfpsa_store_seed(store, 20, 1, (int)scene->version);
    CHECK_EQUAL(wfpsa_store_count(store), seeded ? 20 : 0);
    wfpsa_store_release(store);
    return seeded ? WFPSA_OK : WFPSA_NO_MEMORY;
}

static void
operations_that_read_survive_any_failing_allocation(void)
{
    WALK(open_and_close, 2);
    WALK(open_default, 3);
    WALK(enumerate, 80);
    WALK(enumerate_a_subnet, 80);
    WALK(drain, 8);
    WALK(get_one, 70);
    WALK(subscribe_and_end, 3);
    WALK(list_one_subscription, 4);
    WALK(begin_and_commit, 0);
    WALK(ask_for_statistics, 0);
    WALK(new_batch, 60);
    WALK(take_rows, 70);
    WALK(set_names, 60);
}

static void
exports_survive_any_failing_allocation(void)
{
    WALK(schema_of, 70);
    WALK(export, 200);
}

static void
a_population_comes_whole_or_not_at_all(void)
{
    WALK(seed_elsewhere, 80);
}

/* Into a store that has something, while an enumeration is open. */
static void
a_population_that_fails_leaves_the_store_and_its_enumerations_as_they_were(void)
{
    struct scene scene;
    struct wfpsa_failure failure;
    struct wfpsa_columns *seen = wfpsa_columns_new(1);
    int more = 1, struck = 1;
    scene_begin(&scene, 1);
    CHECK_EQUAL(wfpsa_enumeration_open(scene.session, 1, 15, NULL, &scene.open, &failure), WFPSA_OK);
    CHECK_EQUAL(wfpsa_enumeration_next(scene.open, seen, &more, &failure), WFPSA_OK);
    for (uint64_t nth = 1; struck; nth++) {
        wfpsa_embedded_fail_allocation(nth);
        int seeded = wfpsa_store_seed(scene.store, 300, nth, 1);
        struck = failure_struck(nth);
        CHECK_EQUAL(seeded, !struck);
        CHECK(!struck || scene_is_untouched(&scene));
    }
    CHECK_EQUAL(wfpsa_store_count(scene.store), CONTEXTS + 300);
    while (more) {
        CHECK_EQUAL(wfpsa_enumeration_next(scene.open, seen, &more, &failure), WFPSA_OK);
    }
    CHECK(same_rows(scene.all, seen));
    wfpsa_columns_release(seen);
    scene_end(&scene);
}

static void
a_failed_freeze_can_be_tried_again(void)
{
    struct scene scene;
    scene_begin(&scene, 1);
    for (uint32_t version = 0; version <= 1; version++) {
        int struck = 1;
        for (uint64_t nth = 1; struck; nth++) {
            struct wfpsa_enumeration *enumeration;
            struct wfpsa_failure failure;
            struct wfpsa_columns *batch = wfpsa_columns_new(version);
            int more = 1;
            CHECK_EQUAL(wfpsa_enumeration_open(scene.session, version, 11, NULL, &enumeration, &failure), WFPSA_OK);
            while (more) {
                CHECK_EQUAL(wfpsa_enumeration_next(enumeration, batch, &more, &failure), WFPSA_OK);
            }
            CHECK_EQUAL(wfpsa_enumeration_close(enumeration, &failure), WFPSA_OK);
            wfpsa_enumeration_free(enumeration);
            wfpsa_embedded_fail_allocation(nth);
            int status = wfpsa_columns_freeze(batch);
            struck = failure_struck(nth);
            CHECK_EQUAL(status, struck ? WFPSA_NO_MEMORY : WFPSA_OK);
            CHECK_EQUAL(batch->builder == NULL, !struck);
            CHECK(same_rows(scene.all, batch)); /* as readable as before */
            CHECK_EQUAL(wfpsa_columns_freeze(batch), WFPSA_OK);
            CHECK(batch->builder == NULL && same_rows(scene.all, batch));
            wfpsa_columns_release(batch);
        }
    }
    scene_end(&scene);
}

static void
a_page_without_memory_is_fetched_again_whole(void)
{
    struct scene scene;
    scene_begin(&scene, 1);
    for (uint64_t nth = 1; nth <= 2; nth++) { /* the choice of contexts, and the page */
        for (uint32_t failing = 0; failing < 5; failing++) {
            struct wfpsa_enumeration *enumeration;
            struct wfpsa_failure failure;
            struct wfpsa_columns *batch = wfpsa_columns_new(1);
            int more = 1;
            CHECK_EQUAL(wfpsa_enumeration_open(scene.session, 1, 10, NULL, &enumeration, &failure), WFPSA_OK);
            for (uint32_t page = 0; more; page++) {
                if (page == failing && page < 4) {
                    wfpsa_embedded_fail_allocation(nth);
                    CHECK_EQUAL(wfpsa_enumeration_next(enumeration, batch, &more, &failure), WFPSA_CALL_FAILED);
                    CHECK(failure_struck(nth));
                    CHECK_EQUAL(failure.code, ERROR_NOT_ENOUGH_MEMORY);
                    CHECK_TEXT(failure.function, "IPsecSaContextEnum1");
                    CHECK(!more);
                }
                CHECK_EQUAL(wfpsa_enumeration_next(enumeration, batch, &more, &failure), WFPSA_OK);
            }
            CHECK(same_rows(scene.all, batch));
            CHECK_EQUAL(wfpsa_enumeration_close(enumeration, &failure), WFPSA_OK);
            wfpsa_enumeration_free(enumeration);
            wfpsa_columns_release(batch);
        }
    }
    scene_end(&scene);
}

/* ---- allocations of operations that change something ---- */

static int
expire_one(struct scene *scene, struct wfpsa_failure *failure)
{
    uint64_t done = 0;
    uint8_t outcome;
    int lost;
    int status = wfpsa_session_expire(scene->session, &scene->id, 1, 1000, &done, &outcome, &failure->code, &lost);
    failure->function = "IPsecSaContextExpire0";
    CHECK_EQUAL(status, WFPSA_OK); /* a failed call is an outcome */
    CHECK(done == 1 && !lost);
    CHECK_EQUAL(outcome, failure->code ? WFPSA_FAILED : WFPSA_EXPIRED);
    return failure->code ? WFPSA_CALL_FAILED : WFPSA_OK;
}

static int
delete_one(struct scene *scene, struct wfpsa_failure *failure)
{
    return wfpsa_session_delete(scene->session, scene->id, failure);
}

/* Walks through the expiry of each context, with and without an enumeration that must not see it. */
static void
walk_expiries(int enumerating)
{
    enum { MANY = 250 }; /* nearly a slab of them, and more than the first queues hold */
    struct scene scene;
    struct wfpsa_failure failure;
    struct wfpsa_columns *before, *seen = wfpsa_columns_new(1);
    uint64_t walked = 0;
    int more = 1;
    scene_begin_with(&scene, 1, MANY);
    before = scene.all;
    wfpsa_columns_retain(before);
    if (enumerating) {
        CHECK_EQUAL(wfpsa_enumeration_open(scene.session, 1, 15, NULL, &scene.open, &failure), WFPSA_OK);
    }
    for (uint64_t row = 0; row < MANY; row++) {
        scene.id = U64(before, context_id, row);
        for (uint64_t nth = 1;; nth++) {
            struct wfpsa_live live, after;
            wfpsa_embedded_live(&live);
            wfpsa_embedded_fail_allocation(nth);
            int status = expire_one(&scene, &failure);
            if (!failure_struck(nth)) {
                CHECK_EQUAL(status, WFPSA_OK);
                break;
            }
            wfpsa_embedded_live(&after);
            CHECK_EQUAL(status, WFPSA_CALL_FAILED);
            CHECK_EQUAL(failure.code, ERROR_NOT_ENOUGH_MEMORY);
            CHECK(after.allocations == live.allocations || after.allocations == live.allocations + 1); /* spare room */
            struct wfpsa_columns *now = snapshot_all(scene.session, 1);
            CHECK(same_rows(scene.all, now)); /* nothing of the expiry */
            wfpsa_columns_release(now);
            walked++;
        }
        wfpsa_columns_release(scene.all);
        scene.all = snapshot_all(scene.session, 1);
        uint64_t left = row_of(scene.all, scene.id);
        CHECK(left == scene.all->length || !U8(scene.all, has_outbound, left));
    }
    CHECK(enumerating ? walked >= 5 : walked == 0); /* where nobody keeps the old version it needs no memory */
    if (enumerating) {
        while (more) {
            CHECK_EQUAL(wfpsa_enumeration_next(scene.open, seen, &more, &failure), WFPSA_OK);
        }
        CHECK(same_rows(before, seen));
    }
    wfpsa_store_advance(scene.store, 60000);
    CHECK_EQUAL(wfpsa_store_count(scene.store), 0);
    wfpsa_columns_release(before);
    wfpsa_columns_release(seen);
    scene_end(&scene);
}

static void
an_expiry_happens_whole_or_not_at_all(void)
{
    walk_expiries(0);
    walk_expiries(1);
}

static void
a_deletion_happens_whole_or_not_at_all(void)
{
    struct scene scene;
    scene_begin(&scene, 1);
    uint64_t walked = walk_allocations(&scene, delete_one, "delete"); /* it may need none */
    CHECK(walked <= 1);
    CHECK_EQUAL(wfpsa_store_count(scene.store), CONTEXTS - 1);
    scene_end(&scene);
}

/* More versions than the first array of them holds, kept by an enumeration: the array has to grow at some deletion. */
static void
many_deletions_while_enumerating_happen_whole_or_not_at_all(void)
{
    int created, more = 1;
    struct wfpsa_failure failure;
    struct wfpsa_session *session;
    struct wfpsa_enumeration *enumeration;
    struct wfpsa_store *store = wfpsa_store_open(NULL, &created);
    CHECK(wfpsa_store_seed(store, 400, 9, 1));
    CHECK_EQUAL(wfpsa_session_open(&wfpsa_embedded_backend, wfpsa_store_name(store), 0, &session, &failure), WFPSA_OK);
    struct wfpsa_columns *all = snapshot_all(session, 1), *seen = wfpsa_columns_new(1);
    uint64_t struck = 0;
    CHECK_EQUAL(wfpsa_enumeration_open(session, 1, 100, NULL, &enumeration, &failure), WFPSA_OK);
    for (uint64_t row = 0; row < 400; row++) {
        wfpsa_embedded_fail_allocation(1);
        int status = wfpsa_session_delete(session, U64(all, context_id, row), &failure);
        if (failure_struck(1)) {
            struck++;
            CHECK_EQUAL(status, WFPSA_CALL_FAILED);
            CHECK_EQUAL(failure.code, ERROR_NOT_ENOUGH_MEMORY);
            CHECK_EQUAL(wfpsa_store_count(store), 400 - row);
            status = wfpsa_session_delete(session, U64(all, context_id, row), &failure);
        }
        CHECK_EQUAL(status, WFPSA_OK);
        CHECK_EQUAL(wfpsa_store_count(store), 399 - row);
    }
    CHECK(struck >= 2);
    while (more) {
        CHECK_EQUAL(wfpsa_enumeration_next(enumeration, seen, &more, &failure), WFPSA_OK);
    }
    CHECK(same_rows(all, seen));
    CHECK_EQUAL(wfpsa_enumeration_close(enumeration, &failure), WFPSA_OK);
    wfpsa_enumeration_free(enumeration);
    CHECK_EQUAL(wfpsa_session_close(session, &failure), WFPSA_OK);
    wfpsa_session_free(session);
    wfpsa_columns_release(all);
    wfpsa_columns_release(seen);
    wfpsa_store_release(store);
}

/* ---- allocations of keying ---- */

/* Whatever the structures of keying can say; *inbound has another port. */
static void
details_fill(struct wfpsa_details *outbound, struct wfpsa_details *inbound, uint32_t spi)
{
    memset(outbound, 0, sizeof *outbound);
    outbound->traffic.ip_version = outbound->bundle.ip_version = 4;
    memcpy(outbound->traffic.local_address, "\0\0\0\0\0\0\0\0\0\0\xFF\xFF\x0A\0\0\1", 16);
    memcpy(outbound->traffic.remote_address, "\0\0\0\0\0\0\0\0\0\0\xFF\xFF\x0A\0\0\2", 16);
    outbound->traffic.virtual_tunnel_id = 0x7001;
    outbound->bundle.sa_count = 1;
    outbound->bundle.sas[0].spi = spi;
    outbound->bundle.sas[0].transform = IPSEC_TRANSFORM_ESP_AUTH;
    outbound->bundle.sas[0].auth_config = IPSEC_AUTH_CONFIG_HMAC_MD5_96;
    outbound->bundle.has_key_module = 1;
    outbound->bundle.lookup_context[0] = 9;
    outbound->bundle.main_mode_target = u"a peer that no population has";
    *inbound = *outbound;
    inbound->traffic.remote_port = 4711;
    inbound->bundle.lookup_context[0] = 8;
    inbound->bundle.pfs_group = IPSEC_PFS_24; /* so that nothing is found that the other direction has */
    inbound->bundle.main_mode_target = u"another";
}

static int
create_one(struct scene *scene, struct wfpsa_failure *failure)
{
    struct wfpsa_details outbound, inbound;
    uint64_t id = 0;
    details_fill(&outbound, &inbound, 0);
    int status = wfpsa_session_create(scene->session, &outbound.traffic, &id, failure);
    CHECK_EQUAL(id != 0, status == WFPSA_OK);
    scene->made = id;
    return status;
}

static int
get_spi_for_it(struct scene *scene, struct wfpsa_failure *failure)
{
    struct wfpsa_details outbound, inbound;
    uint32_t spi = 0;
    details_fill(&outbound, &inbound, 0);
    int status = wfpsa_session_spi(scene->session, scene->made, &inbound.traffic, &spi, failure);
    CHECK_EQUAL(spi != 0, status == WFPSA_OK);
    scene->spi = spi;
    return status;
}

static int
set_spi_for_it(struct scene *scene, struct wfpsa_failure *failure)
{
    struct wfpsa_details outbound, inbound;
    uint32_t spi = 0x4321;
    details_fill(&outbound, &inbound, 0);
    int status = wfpsa_session_spi(scene->session, scene->made, &inbound.traffic, &spi, failure);
    scene->spi = spi;
    return status;
}

static int
add_inbound_to_it(struct scene *scene, struct wfpsa_failure *failure)
{
    struct wfpsa_details outbound, inbound;
    details_fill(&outbound, &inbound, scene->spi);
    return wfpsa_session_add(scene->session, scene->made, WFPSA_INBOUND, &inbound.bundle, failure);
}

static int
add_outbound_to_it(struct scene *scene, struct wfpsa_failure *failure)
{
    struct wfpsa_details outbound, inbound;
    details_fill(&outbound, &inbound, 0x1000);
    return wfpsa_session_add(scene->session, scene->made, WFPSA_OUTBOUND, &outbound.bundle, failure);
}

static int
update_it(struct scene *scene, struct wfpsa_failure *failure)
{
    struct wfpsa_details outbound, inbound;
    details_fill(&outbound, &inbound, 0);
    inbound.traffic.remote_port++;
    outbound.bundle.flags = IPSEC_SA_BUNDLE_FLAG_ND_SECURE;
    inbound.bundle.flags = IPSEC_SA_BUNDLE_FLAG_ND_BOUNDARY;
    inbound.bundle.key_module[0] = outbound.bundle.key_module[1] = 1;
    return wfpsa_session_update(scene->session, scene->made, 0x7F, &inbound, &outbound, failure);
}

static int
add_another(struct scene *scene, struct wfpsa_failure *failure)
{
    struct wfpsa_details outbound, inbound;
    uint64_t id = 0;
    details_fill(&outbound, &inbound, 0x2000);
    outbound.traffic.remote_port = 99;
    outbound.bundle.pfs_group = IPSEC_PFS_ECP_256;
    inbound.bundle.pfs_group = IPSEC_PFS_ECP_384;
    failure->function = "wfpsa_store_add";
    failure->code = wfpsa_keying_store(wfpsa_store_add, scene->store, &id, &inbound, &outbound);
    CHECK_EQUAL(id != 0, failure->code == 0);
    return failure->code ? WFPSA_CALL_FAILED : WFPSA_OK;
}

static int
churn_a_little(struct scene *scene, struct wfpsa_failure *failure)
{
    failure->function = "wfpsa_store_churn";
    failure->code = ERROR_NOT_ENOUGH_MEMORY;
    return wfpsa_store_churn(scene->store, 1, 1) ? WFPSA_OK : WFPSA_CALL_FAILED;
}

/* One step after the other, each failing at its first, its second, ... allocation before it succeeds, with and
 * without an enumeration that must see none of it. Room for more contexts may stay once it was had. */
static void
walk_keying(int setting, int enumerating)
{
    enum { ROOM = 4 };
    static const struct {
        operation operate;
        const char *name;
        uint64_t least;
    } steps[] = {{create_one, "create", 1},
                 {NULL, "SPI", 1},
                 {add_inbound_to_it, "add inbound", 3},
                 {add_outbound_to_it, "add outbound", 3},
                 {update_it, "update", 3},
                 {add_another, "add another", 6},
                 {churn_a_little, "churn", 50}};
    struct scene scene;
    struct wfpsa_failure failure;
    struct wfpsa_columns *before, *seen = wfpsa_columns_new(1);
    int more = 1;
    scene_begin(&scene, 1);
    before = scene.all;
    wfpsa_columns_retain(before);
    if (enumerating) {
        CHECK_EQUAL(wfpsa_enumeration_open(scene.session, 1, 15, NULL, &scene.open, &failure), WFPSA_OK);
    }
    for (size_t i = 0; i < COUNT(steps); i++) {
        operation operate = steps[i].operate ? steps[i].operate : setting ? set_spi_for_it : get_spi_for_it;
        struct wfpsa_statistics was, is;
        struct wfpsa_live live, after;
        uint64_t nth = 1;
        CHECK_EQUAL(wfpsa_session_statistics(scene.session, &was, &failure), WFPSA_OK);
        wfpsa_embedded_live(&live);
        for (;; nth++) {
            wfpsa_embedded_fail_allocation(nth);
            int status = operate(&scene, &failure);
            if (!failure_struck(nth)) {
                CHECK_EQUAL(status, WFPSA_OK);
                break;
            }
            wfpsa_embedded_live(&after);
            CHECK_EQUAL(wfpsa_session_statistics(scene.session, &is, &failure), WFPSA_OK);
            if (!CHECK_EQUAL(status, WFPSA_CALL_FAILED) || !CHECK_EQUAL(failure.code, ERROR_NOT_ENOUGH_MEMORY) ||
                !CHECK_BYTES(&is, &was, sizeof is) || !CHECK(scene_is_untouched(&scene)) ||
                !CHECK(after.allocations >= live.allocations && after.allocations <= live.allocations + ROOM)) {
                fprintf(stderr, "%s: allocation %u\n", steps[i].name, (unsigned)nth);
                break;
            }
        }
        if (!CHECK(nth > steps[i].least)) {
            fprintf(stderr, "%s: only %u allocations\n", steps[i].name, (unsigned)nth - 1);
        }
        wfpsa_columns_release(scene.all);
        scene.all = snapshot_all(scene.session, 1);
    }
    CHECK(wfpsa_store_churn(scene.store, 0, 0));
    CHECK_EQUAL(scene.all->length, CONTEXTS + 2);
    if (enumerating) {
        while (more) {
            CHECK_EQUAL(wfpsa_enumeration_next(scene.open, seen, &more, &failure), WFPSA_OK);
        }
        CHECK(same_rows(before, seen));
    }
    wfpsa_columns_release(before);
    wfpsa_columns_release(seen);
    scene_end(&scene);
}

static void
each_step_of_keying_happens_whole_or_not_at_all(void)
{
    for (int setting = 0; setting <= 1; setting++) {
        walk_keying(setting, 0);
        walk_keying(setting, 1);
    }
}

static void
a_refused_bundle_gives_back_all_it_took(void)
{
    struct scene scene;
    struct wfpsa_failure failure;
    struct wfpsa_details outbound, inbound;
    scene_begin(&scene, 1);
    CHECK_EQUAL(create_one(&scene, &failure), WFPSA_OK);
    CHECK_EQUAL(get_spi_for_it(&scene, &failure), WFPSA_OK);
    int64_t before = live_allocations();
    for (int i = 0; i < 3; i++) {
        details_fill(&outbound, &inbound, scene.spi);
        inbound.bundle.sas[0].spi += i == 0; /* found out when the rest has been made */
        inbound.bundle.pfs_group = i == 1 ? IPSEC_PFS_MAX : IPSEC_PFS_24;
        inbound.bundle.sas[0].auth_key_bytes = i == 2 ? 300 : 0;
        CHECK_EQUAL(wfpsa_session_add(scene.session, scene.made, WFPSA_INBOUND, &inbound.bundle, &failure),
                    WFPSA_CALL_FAILED);
        CHECK_EQUAL(live_allocations(), before);
    }
    CHECK_EQUAL(wfpsa_session_delete(scene.session, scene.made, &failure), WFPSA_OK);
    scene_end(&scene);
}

static void
an_older_duplicate_that_cannot_be_kept_for_an_enumeration_stays(void)
{
    enum { OLDER = 150 }; /* more than the first queue of kept versions holds */
    struct scene scene;
    struct wfpsa_failure failure;
    struct wfpsa_details outbound, inbound;
    uint64_t id, struck = 0;
    scene_begin(&scene, 1);
    for (uint32_t i = 0; i < OLDER; i++) {
        id = 0;
        details_fill(&outbound, &inbound, 0x3000 + i);
        CHECK_EQUAL(wfpsa_keying_store(wfpsa_store_add, scene.store, &id, &inbound, &outbound), 0);
    }
    CHECK_EQUAL(create_one(&scene, &failure), WFPSA_OK);
    CHECK_EQUAL(get_spi_for_it(&scene, &failure), WFPSA_OK);
    CHECK_EQUAL(add_inbound_to_it(&scene, &failure), WFPSA_OK);
    struct wfpsa_columns *before = snapshot_all(scene.session, 1), *seen = wfpsa_columns_new(1);
    CHECK_EQUAL(wfpsa_enumeration_open(scene.session, 1, 50, NULL, &scene.open, &failure), WFPSA_OK);
    for (uint64_t nth = 1;; nth++) {
        wfpsa_embedded_fail_allocation(nth);
        int status = add_outbound_to_it(&scene, &failure);
        int failed = failure_struck(nth);
        if (status == WFPSA_OK) {
            struck = (uint64_t)failed;
            break;
        }
        CHECK(failed && failure.code == ERROR_NOT_ENOUGH_MEMORY);
        CHECK_EQUAL(wfpsa_store_count(scene.store), CONTEXTS + OLDER + 1);
    }
    uint64_t count = wfpsa_store_count(scene.store);
    CHECK(struck ? count > CONTEXTS + 1 && count < CONTEXTS + OLDER + 1 : count == CONTEXTS + 1);
    CHECK(struck); /* the addition itself had succeeded */
    for (int more = 1; more;) {
        CHECK_EQUAL(wfpsa_enumeration_next(scene.open, seen, &more, &failure), WFPSA_OK);
    }
    CHECK(same_rows(before, seen));
    wfpsa_columns_release(before);
    wfpsa_columns_release(seen);
    scene_end(&scene);
}

/* ---- calls ---- */

/* A subscription, a transaction, and a context from its creation to its update. */
static int
second_half_of_life(struct wfpsa_session *session, struct wfpsa_failure *failure)
{
    struct scene scene;
    struct wfpsa_statistics statistics;
    memset(&scene, 0, sizeof scene);
    scene.session = session;
    int status = create_one(&scene, failure);
    status = status == WFPSA_OK ? get_spi_for_it(&scene, failure) : status;
    status = status == WFPSA_OK ? set_spi_for_it(&scene, failure) : status;
    status = status == WFPSA_OK ? add_inbound_to_it(&scene, failure) : status;
    status = status == WFPSA_OK ? wfpsa_session_transaction(session, WFPSA_BEGIN, failure) : status;
    status = status == WFPSA_OK ? add_outbound_to_it(&scene, failure) : status;
    status = status == WFPSA_OK ? wfpsa_session_transaction(session, WFPSA_COMMIT, failure) : status;
    status = status == WFPSA_OK ? update_it(&scene, failure) : status;
    status = status == WFPSA_OK ? wfpsa_session_transaction(session, WFPSA_BEGIN_READ_ONLY, failure) : status;
    status = status == WFPSA_OK ? list_subscriptions(session, failure) : status;
    status = status == WFPSA_OK ? wfpsa_session_transaction(session, WFPSA_ABORT, failure) : status;
    return status == WFPSA_OK ? wfpsa_session_statistics(session, &statistics, failure) : status;
}

/* All that a user does with an engine, from opening to closing. */
static int
whole_life(const struct wfpsa_store *store, uint32_t version, struct wfpsa_failure *failure)
{
    struct wfpsa_session *session;
    struct wfpsa_failure ignored;
    struct wfpsa_columns *batch = NULL, *one = NULL;
    struct wfpsa_subscription *subscription = NULL;
    uint64_t done = 0, count;
    uint8_t outcomes[2];
    uint32_t codes[2];
    int lost;
    int status = wfpsa_session_open(&wfpsa_embedded_backend, wfpsa_store_name(store), 0, &session, failure);
    if (status != WFPSA_OK) {
        CHECK(session == NULL);
        return status;
    }
    status = wfpsa_subscription_open(session, NULL, 50, &subscription, failure);
    if (status == WFPSA_OK) {
        status = snapshot(session, version, 8, NULL, &batch, failure);
    }
    if (status == WFPSA_OK) {
        one = wfpsa_columns_new(version);
        status = wfpsa_session_get(session, U64(batch, context_id, 7), one, failure);
    }
    if (status == WFPSA_OK) {
        status = wfpsa_session_expire(session, &U64(batch, context_id, 0), 2, 1000, &done, outcomes, codes, &lost);
        CHECK(status == WFPSA_OK && (done == 2 || lost));
        for (uint64_t i = 0; i < done && status == WFPSA_OK; i++) {
            if (codes[i]) {
                failure->code = codes[i];
                failure->function = "IPsecSaContextExpire0";
                status = WFPSA_CALL_FAILED;
            }
        }
    }
    if (status == WFPSA_OK) {
        status = wfpsa_session_delete(session, U64(batch, context_id, 5), failure);
    }
    if (status == WFPSA_OK) {
        status = wfpsa_session_drain(session, version, 30, &count, failure);
    }
    if (status == WFPSA_OK) {
        status = second_half_of_life(session, failure);
    }
    if (status == WFPSA_OK) {
        status = wfpsa_subscription_close(subscription, failure);
    }
    int closed = wfpsa_session_close(session, status == WFPSA_OK ? failure : &ignored);
    wfpsa_subscription_free(subscription);
    wfpsa_session_free(session);
    wfpsa_columns_release(batch);
    wfpsa_columns_release(one);
    return status == WFPSA_OK ? closed : status;
}

static void
every_call_of_every_function_may_fail(void)
{
    static const uint32_t codes[] = {TIMEOUT, ERROR_ACCESS_DENIED, RPC_S_CALL_FAILED, ERROR_NOT_ENOUGH_MEMORY};
    uintptr_t address;
    const char *function;
    for (uint32_t version = 0; version <= 1; version++) {
        for (uint32_t i = 0; (function = wfpsa_backend_function(&wfpsa_embedded_backend, i, &address)) != NULL; i++) {
            uint64_t nth = 0;
            int failed = address != 0 && strcmp(function, "FwpmFreeMemory0") != 0;
            while (failed) {
                int created;
                struct wfpsa_failure failure = {0, NULL};
                struct wfpsa_store *store = wfpsa_store_open(NULL, &created);
                uint32_t code = codes[nth % COUNT(codes)];
                CHECK(wfpsa_store_seed(store, CONTEXTS, 5, 1));
                CHECK(wfpsa_store_fail(store, function, ++nth, code));
                int status = whole_life(store, version, &failure);
                failed = status != WFPSA_OK;
                if (failed) {
                    struct wfpsa_live live;
                    CHECK_EQUAL(status, WFPSA_CALL_FAILED);
                    CHECK_EQUAL(failure.code, code);
                    CHECK_TEXT(failure.function, function);
                    wfpsa_embedded_live(&live);
                    CHECK(live.engines == 0 && live.enum_handles == 0 && live.pages == 0 && live.stores == 1);
                    CHECK(live.subscriptions == 0 && live.transactions == 0);
                    CHECK_EQUAL(whole_life(store, version, &failure), WFPSA_OK); /* the engine is as good as before */
                }
                wfpsa_store_release(store);
                if (!CHECK(nth < 100)) {
                    return;
                }
            }
            /* Enum: 6 pages to take, 2 to drain. */
            uint64_t calls = is_one_of(function, version ? "IPsecSaContextEnum0 IPsecSaContextGetById0"
                                                         : "IPsecSaContextEnum1 IPsecSaContextGetById1")
                                 ? 0
                             : strncmp(function, "IPsecSaContextEnum", 18) == 0 ? 8
                             : is_one_of(function, "IPsecSaContextCreateEnumHandle0 IPsecSaContextDestroyEnumHandle0 "
                                                   "IPsecSaContextExpire0 FwpmTransactionBegin0")
                                 ? 2
                                 : 1;
            CHECK_EQUAL(nth, strcmp(function, "FwpmFreeMemory0") == 0 ? 0 : calls + 1);
        }
    }
}

int
main(void)
{
    RUN(operations_that_read_survive_any_failing_allocation);
    RUN(exports_survive_any_failing_allocation);
    RUN(a_population_comes_whole_or_not_at_all);
    RUN(a_population_that_fails_leaves_the_store_and_its_enumerations_as_they_were);
    RUN(a_failed_freeze_can_be_tried_again);
    RUN(a_page_without_memory_is_fetched_again_whole);
    RUN(an_expiry_happens_whole_or_not_at_all);
    RUN(a_deletion_happens_whole_or_not_at_all);
    RUN(many_deletions_while_enumerating_happen_whole_or_not_at_all);
    RUN(each_step_of_keying_happens_whole_or_not_at_all);
    RUN(a_refused_bundle_gives_back_all_it_took);
    RUN(an_older_duplicate_that_cannot_be_kept_for_an_enumeration_stays);
    RUN(every_call_of_every_function_may_fail);
    return closing_line();
}
