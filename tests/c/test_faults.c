/* A walk through every allocation and every call that can fail: the right status, nothing lost, nothing half done. */
#include "batch.h"

#include <errno.h>

#include "wfpsa/arrow.h"
#include "wfpsa/backend.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])
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
};

static void
scene_begin_with(struct scene *scene, uint32_t version, uint64_t count)
{
    int created;
    struct wfpsa_failure failure;
    memset(scene, 0, sizeof *scene);
    scene->version = version;
    scene->store = wfpsa_store_open(NULL, &created);
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
    return same && wfpsa_store_count(scene->store) == CONTEXTS;
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

/* ---- calls ---- */

/* All that a user does with an engine, from opening to closing. */
static int
whole_life(const struct wfpsa_store *store, uint32_t version, struct wfpsa_failure *failure)
{
    struct wfpsa_session *session;
    struct wfpsa_failure ignored;
    struct wfpsa_columns *batch = NULL, *one = NULL;
    uint64_t done = 0, count;
    uint8_t outcomes[2];
    uint32_t codes[2];
    int lost;
    int status = wfpsa_session_open(&wfpsa_embedded_backend, wfpsa_store_name(store), 0, &session, failure);
    if (status != WFPSA_OK) {
        CHECK(session == NULL);
        return status;
    }
    status = snapshot(session, version, 8, NULL, &batch, failure);
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
    int closed = wfpsa_session_close(session, status == WFPSA_OK ? failure : &ignored);
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
                    CHECK_EQUAL(whole_life(store, version, &failure), WFPSA_OK); /* the engine is as good as before */
                }
                wfpsa_store_release(store);
                if (!CHECK(nth < 100)) {
                    return;
                }
            }
            /* Enum: 6 pages to take, 2 to drain; create and destroy: once each; the rest as whole_life reads. */
            uint64_t calls = strcmp(function, version ? "IPsecSaContextEnum1" : "IPsecSaContextEnum0") == 0         ? 8
                             : strcmp(function, version ? "IPsecSaContextEnum0" : "IPsecSaContextEnum1") == 0       ? 0
                             : strcmp(function, version ? "IPsecSaContextGetById0" : "IPsecSaContextGetById1") == 0 ? 0
                             : strcmp(function, "IPsecSaContextCreateEnumHandle0") == 0                             ? 2
                             : strcmp(function, "IPsecSaContextDestroyEnumHandle0") == 0                            ? 2
                             : strcmp(function, "IPsecSaContextExpire0") == 0 ? 2
                                                                              : 1;
            CHECK(nth == 0 || nth == calls + 1);
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
    RUN(every_call_of_every_function_may_fail);
    return closing_line();
}
