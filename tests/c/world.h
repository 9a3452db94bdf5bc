/* A world of a few numbers a context that tells its changes at once, and a mirror of it. */
#ifndef WFPSA_TESTS_WORLD_H
#define WFPSA_TESTS_WORLD_H

#include "batch.h"

#include <stdlib.h>

#include "wfpsa/backend.h"
#include "wfpsa/events.h"
#include "wfpsa/mirror.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])
#define WORLD_MAX 2048u
#define KEY_BYTES 24u
#define BOTH (WFPSA_PRESENT_INBOUND | WFPSA_PRESENT_OUTBOUND)

/* ---- the world ---- */

struct thing {
    uint64_t id;
    uint32_t spi, name; /* name: 0 for none */
    unsigned sides;     /* WFPSA_PRESENT_* */
    int there;
};

static struct thing world[WORLD_MAX];
static uint32_t world_count, pages_alive, calls_by_id;
static IPSEC_SA_CONTEXT_CALLBACK0 told;
static void *told_with;

/* All that one context points to. */
struct body {
    IPSEC_SA_CONTEXT1 context;
    IPSEC_SA_DETAILS1 sides[2];
    IPSEC_SA0 sas[2];
    IPSEC_SA_AUTH_INFORMATION0 auths[2];
    IPSEC_ID0 identity;
    WCHAR name[24];
    UINT8 keys[2][KEY_BYTES];
};

/* A result: its pointers, then what they point to; `count` is before the array for the one who frees it. */
struct result {
    uint64_t count;
    IPSEC_SA_CONTEXT1 *array[WORLD_MAX];
    struct body bodies[]; /* as many */
};

static inline void
name_of(uint32_t number, char *text, size_t size)
{
    snprintf(text, size, "peer-%" PRIu32 ".example", number);
}

static inline void
fill_body(struct body *body, const struct thing *thing)
{
    memset(body, 0, sizeof *body);
    body->context.saContextId = thing->id;
    for (int side = 0; side < 2; side++) {
        IPSEC_SA_DETAILS1 *details = &body->sides[side];
        memset(body->keys[side], 0xA5, KEY_BYTES);
        body->auths[side].authKey.size = KEY_BYTES;
        body->auths[side].authKey.data = body->keys[side];
        body->sas[side].spi = thing->spi;
        body->sas[side].saTransformType = IPSEC_TRANSFORM_AH;
        body->sas[side].ahInformation = &body->auths[side];
        details->ipVersion = FWP_IP_VERSION_V4;
        details->traffic.ipVersion = FWP_IP_VERSION_V4;
        details->saBundle.numSAs = 1;
        details->saBundle.saList = &body->sas[side];
        if (thing->name) {
            char text[24];
            name_of(thing->name, text, sizeof text);
            for (size_t i = 0; text[i]; i++) {
                body->name[i] = (WCHAR)text[i];
            }
            body->identity.mmTargetName = body->name;
            details->saBundle.ipsecId = &body->identity;
        }
    }
    body->context.inboundSa = thing->sides & WFPSA_PRESENT_INBOUND ? &body->sides[0] : NULL;
    body->context.outboundSa = thing->sides & WFPSA_PRESENT_OUTBOUND ? &body->sides[1] : NULL;
}

static inline struct result *
result_new(uint64_t count)
{
    struct result *made = calloc(1, sizeof *made + (count + 1) * sizeof(struct body));
    if (!made) {
        abort();
    }
    made->count = count;
    pages_alive++;
    return made;
}

/* Looks whether the keys were wiped. `*p` is the array's or the only context's address. */
static inline void WINAPI
world_free(void **p)
{
    static const UINT8 zeros[KEY_BYTES];
    if (!*p) {
        return;
    }
    char *at = *p;
    struct result *result = (struct result *)(at - offsetof(struct result, array));
    if (result->array[0] != &result->bodies[0].context) { /* of a call by id */
        result = (struct result *)(at - offsetof(struct result, bodies));
    }
    for (uint64_t i = 0; i < result->count; i++) {
        const struct body *body = &result->bodies[i];
        for (int side = 0; side < 2; side++) {
            if (side ? body->context.outboundSa != NULL : body->context.inboundSa != NULL) {
                CHECK_BYTES(body->keys[side], zeros, KEY_BYTES);
            }
        }
    }
    free(result);
    pages_alive--;
    *p = NULL;
}

static inline struct thing *
thing_of(uint64_t id)
{
    for (uint32_t i = 0; i < world_count; i++) {
        if (world[i].id == id) {
            return &world[i];
        }
    }
    return NULL;
}

static DWORD fails_with;

static inline DWORD WINAPI
world_get(HANDLE engine, UINT64 id, IPSEC_SA_CONTEXT1 **found)
{
    const struct thing *thing = thing_of(id);
    (void)engine;
    calls_by_id++;
    if (fails_with) {
        return fails_with;
    }
    if (!thing || !thing->there) {
        return (DWORD)FWP_E_NOT_FOUND;
    }
    struct result *result = result_new(1);
    fill_body(&result->bodies[0], thing);
    *found = &result->bodies[0].context;
    return 0;
}

/* The one enumeration of a test: where it stands. */
static uint32_t listed_to;

static inline DWORD WINAPI
world_begin(HANDLE engine, const IPSEC_SA_CONTEXT_ENUM_TEMPLATE0 *wanted, HANDLE *handle)
{
    (void)engine;
    CHECK(wanted == NULL);
    listed_to = 0;
    *handle = &listed_to;
    return 0;
}

static inline DWORD WINAPI
world_end(HANDLE engine, HANDLE handle)
{
    (void)engine;
    CHECK(handle == &listed_to);
    return 0;
}

static inline DWORD WINAPI
world_list(HANDLE engine, HANDLE handle, UINT32 wanted, IPSEC_SA_CONTEXT1 ***entries, UINT32 *returned)
{
    uint32_t count = 0;
    (void)engine;
    (void)handle;
    *entries = NULL;
    *returned = 0;
    if (fails_with) {
        return fails_with;
    }
    for (uint32_t i = listed_to; i < world_count && count < wanted; i++) {
        count += world[i].there != 0;
    }
    if (count == 0) {
        return 0;
    }
    struct result *result = result_new(count);
    for (uint32_t at = 0; at < count; listed_to++) {
        if (world[listed_to].there) {
            fill_body(&result->bodies[at], &world[listed_to]);
            result->array[at] = &result->bodies[at].context;
            at++;
        }
    }
    *entries = result->array;
    *returned = count;
    return 0;
}

static inline DWORD WINAPI
world_open(const WCHAR *server_name, UINT32 service, SEC_WINNT_AUTH_IDENTITY_W *identity, const FWPM_SESSION0 *wanted,
           HANDLE *engine)
{
    (void)server_name;
    (void)service;
    (void)identity;
    (void)wanted;
    *engine = world;
    return 0;
}

static inline DWORD WINAPI
world_close(HANDLE engine)
{
    (void)engine;
    return 0;
}

static inline DWORD WINAPI
world_subscribe(HANDLE engine, const IPSEC_SA_CONTEXT_SUBSCRIPTION0 *wanted, IPSEC_SA_CONTEXT_CALLBACK0 callback,
                void *context, HANDLE *events)
{
    (void)engine;
    (void)wanted;
    told = callback;
    told_with = context;
    *events = &told;
    return 0;
}

static inline DWORD WINAPI
world_unsubscribe(HANDLE engine, HANDLE events)
{
    (void)engine;
    (void)events;
    told = NULL;
    return 0;
}

static struct wfpsa_backend backend;

/* Tells that something happened to an id. */
static inline void
tell(uint64_t id)
{
    IPSEC_SA_CONTEXT_CHANGE0 change;
    memset(&change, 0, sizeof change);
    change.changeType = IPSEC_SA_CONTEXT_EVENT_ADD;
    change.saContextId = id;
    told(told_with, &change);
}

/* ---- a mirror of it ---- */

struct scene {
    struct wfpsa_session *session;
    struct wfpsa_subscription *subscription;
    struct wfpsa_mirror *mirror;
    uint64_t now;
};

static inline struct scene
scene_of(const uint8_t *wanted, uint32_t history, uint32_t capacity)
{
    struct scene scene = {NULL, NULL, NULL, 1000};
    struct wfpsa_failure failure;
    backend = wfpsa_embedded_backend;
    backend.engine_open = world_open;
    backend.engine_close = world_close;
    backend.free_memory = world_free;
    backend.sa_context_get_by_id1 = world_get;
    backend.sa_context_create_enum_handle = world_begin;
    backend.sa_context_destroy_enum_handle = world_end;
    backend.sa_context_enum1 = world_list;
    backend.sa_context_subscribe = world_subscribe;
    backend.sa_context_unsubscribe = world_unsubscribe;
    memset(world, 0, sizeof world);
    world_count = 0;
    calls_by_id = 0;
    fails_with = 0;
    CHECK_EQUAL(wfpsa_session_open(&backend, NULL, 0, &scene.session, &failure), WFPSA_OK);
    CHECK_EQUAL(wfpsa_subscription_open(scene.session, NULL, capacity, &scene.subscription, &failure), WFPSA_OK);
    CHECK_EQUAL(wfpsa_mirror_new(wanted, history, &scene.mirror), WFPSA_OK);
    return scene;
}

static inline void
scene_end(struct scene *scene)
{
    struct wfpsa_failure failure;
    wfpsa_mirror_free(scene->mirror);
    CHECK_EQUAL(wfpsa_subscription_close(scene->subscription, &failure), WFPSA_OK);
    wfpsa_subscription_free(scene->subscription);
    CHECK_EQUAL(wfpsa_session_close(scene->session, &failure), WFPSA_OK);
    wfpsa_session_free(scene->session);
    CHECK_EQUAL(pages_alive, 0);
}

static inline struct thing *
put(uint64_t id, uint32_t spi, unsigned sides)
{
    struct thing *thing = thing_of(id);
    if (!thing) {
        thing = &world[world_count++];
        thing->id = id;
    }
    thing->spi = spi;
    thing->sides = sides;
    thing->there = 1;
    return thing;
}

static inline int
try_pull(const struct scene *scene, uint64_t *lost)
{
    return wfpsa_mirror_pull(scene->mirror, scene->subscription, lost);
}

static inline int
try_read(const struct scene *scene, uint32_t most, uint32_t *done)
{
    struct wfpsa_failure failure;
    return wfpsa_mirror_read(scene->mirror, scene->session, scene->now, most, done, &failure);
}

static inline uint32_t
catch_up(const struct scene *scene)
{
    uint64_t lost = 0;
    uint32_t done = 0;
    CHECK_EQUAL(try_pull(scene, &lost), WFPSA_OK);
    CHECK_EQUAL(lost, 0);
    CHECK_EQUAL(try_read(scene, UINT32_MAX, &done), WFPSA_OK);
    return done;
}

static inline int
try_reconcile(const struct scene *scene, uint32_t page_size, struct wfpsa_drift *drift)
{
    struct wfpsa_enumeration *enumeration;
    struct wfpsa_failure failure, ignored;
    int more = 1;
    wfpsa_mirror_reconcile_begin(scene->mirror, 0);
    int status = wfpsa_enumeration_open(scene->session, 1, page_size, NULL, &enumeration, &failure);
    if (status != WFPSA_OK) {
        return status;
    }
    while (status == WFPSA_OK && more) {
        status = wfpsa_mirror_reconcile_page(scene->mirror, enumeration, scene->now, &more, &failure);
    }
    wfpsa_enumeration_close(enumeration, &ignored);
    wfpsa_enumeration_free(enumeration);
    return status == WFPSA_OK ? wfpsa_mirror_reconcile_end(scene->mirror, drift) : status;
}

static inline struct wfpsa_drift
reconcile(const struct scene *scene, uint32_t page_size)
{
    struct wfpsa_drift drift = {0, 0, 0, 0};
    CHECK_EQUAL(try_reconcile(scene, page_size, &drift), WFPSA_OK);
    return drift;
}

static inline struct wfpsa_mirror_state
state_of(const struct scene *scene)
{
    struct wfpsa_mirror_state state;
    wfpsa_mirror_look(scene->mirror, &state);
    return state;
}

static inline struct wfpsa_columns *
shown(const struct scene *scene)
{
    struct wfpsa_columns *batch = NULL;
    uint64_t generation;
    CHECK_EQUAL(wfpsa_mirror_snapshot(scene->mirror, &batch, &generation), WFPSA_OK);
    CHECK_EQUAL(generation, state_of(scene).generation);
    CHECK(is_sound(batch));
    return batch;
}

/* Whether a row says what the world says, or said. */
static inline int
row_is(const struct wfpsa_columns *batch, uint64_t row, const struct thing *thing)
{
    char text[24];
    int inbound = (thing->sides & WFPSA_PRESENT_INBOUND) != 0, outbound = (thing->sides & WFPSA_PRESENT_OUTBOUND) != 0;
    name_of(thing->name, text, sizeof text);
    return U64(batch, context_id, row) == thing->id && U8(batch, has_inbound, row) == inbound &&
           U8(batch, has_outbound, row) == outbound && U32(batch, spi_in, row) == (inbound ? thing->spi : 0) &&
           U32(batch, spi_out, row) == (outbound ? thing->spi : 0) &&
           (inbound && thing->name ? name_is(batch, U32(batch, main_mode_target_in, row), text, strlen(text))
                                   : U32(batch, main_mode_target_in, row) == 0);
}

/* Whether the mirror has the world's contexts and no others. */
static inline int
is_the_world(const struct scene *scene)
{
    struct wfpsa_columns *batch = shown(scene);
    uint64_t there = 0, since;
    int right = 1;
    for (uint64_t row = 0; row < batch->length; row++) {
        const struct thing *thing = thing_of(U64(batch, context_id, row));
        right &= thing && thing->there && row_is(batch, row, thing);
    }
    for (uint32_t i = 0; i < world_count; i++) {
        there += world[i].there != 0;
        right &= wfpsa_mirror_first_seen(scene->mirror, world[i].id, &since) == (world[i].there != 0);
    }
    right &= batch->length == there;
    wfpsa_columns_release(batch);
    return right;
}

/* A mirror that had half of them, and others. */
static inline struct scene
halfway(void)
{
    struct scene scene = scene_of(NULL, 30, 4096);
    for (uint32_t i = 0; i < 200; i++) {
        if (i % 2) {
            put(i + 1, i + (i % 3 == 0), BOTH)->name = 1 + i;
        }
    }
    reconcile(&scene, 0);
    return scene;
}

#endif
