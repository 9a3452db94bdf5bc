/* What the tests of the engine play in: stores, sessions, enumerations, and the making of contexts by the OS's calls.
 */
#ifndef WFPSA_TESTS_SCENE_H
#define WFPSA_TESTS_SCENE_H

#include "batch.h"

#include "wfpsa/backend.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])
#define ALL 0xFFFFFFFFu

static const struct wfpsa_backend *const os = &wfpsa_embedded_backend;

/* ---- stores ---- */

static inline struct wfpsa_store *
empty_store(void)
{
    int created;
    struct wfpsa_store *store = wfpsa_store_open(NULL, &created);
    CHECK(store != NULL && created);
    return store;
}

/* A store of its own with that many contexts. */
static inline struct wfpsa_store *
make_store(uint64_t count, int odd)
{
    struct wfpsa_store *store = empty_store();
    CHECK(wfpsa_store_seed(store, count, 7, odd));
    CHECK_EQUAL(wfpsa_store_count(store), count);
    return store;
}

/* ---- what is alive ---- */

static inline struct wfpsa_live
live_now(void)
{
    struct wfpsa_live live;
    wfpsa_embedded_live(&live);
    return live;
}

static inline int64_t
live_allocations(void)
{
    return live_now().allocations;
}

/* ---- sessions ---- */

/* With these flags, that key (NULL: the engine's choice) and that wait for the lock. */
static inline DWORD
try_open(const struct wfpsa_store *store, uint32_t flags, const GUID *key, uint32_t wait_ms, HANDLE *engine)
{
    FWPM_SESSION0 session;
    memset(&session, 0, sizeof session);
    session.flags = flags;
    session.txnWaitTimeoutInMSec = wait_ms;
    if (key) {
        session.sessionKey = *key;
    }
    *engine = NULL;
    return os->engine_open((const WCHAR *)wfpsa_store_name(store), RPC_C_AUTHN_DEFAULT, NULL, &session, engine);
}

static inline HANDLE
open_with(const struct wfpsa_store *store, uint32_t flags)
{
    HANDLE engine;
    CHECK_EQUAL(try_open(store, flags, NULL, 0, &engine), 0);
    return engine;
}

static inline HANDLE
open_waiting(const struct wfpsa_store *store, uint32_t wait_ms)
{
    HANDLE engine;
    CHECK_EQUAL(try_open(store, 0, NULL, wait_ms, &engine), 0);
    return engine;
}

static inline HANDLE
open_engine(const struct wfpsa_store *store)
{
    return open_with(store, 0);
}

static inline void
close_engine(HANDLE engine)
{
    CHECK_EQUAL(os->engine_close(engine), 0);
}

/* ---- enumerations ---- */

static inline HANDLE
begin(HANDLE engine, const IPSEC_SA_CONTEXT_ENUM_TEMPLATE0 *wanted)
{
    HANDLE handle = NULL;
    CHECK_EQUAL(os->sa_context_create_enum_handle(engine, wanted, &handle), 0);
    return handle;
}

static inline void
end(HANDLE engine, HANDLE handle)
{
    CHECK_EQUAL(os->sa_context_destroy_enum_handle(engine, handle), 0);
}

/* One page onto the batch; returns how many came. */
static inline uint32_t
next_page(HANDLE engine, HANDLE handle, uint32_t wanted, struct wfpsa_columns *batch)
{
    IPSEC_SA_CONTEXT0 **page0 = NULL;
    IPSEC_SA_CONTEXT1 **page1 = NULL;
    UINT32 returned = 12345;
    if (batch->version == 0) {
        CHECK_EQUAL(os->sa_context_enum0(engine, handle, wanted, &page0, &returned), 0);
        CHECK_EQUAL(wfpsa_columns_append0(batch, page0, returned, NULL), WFPSA_OK);
    } else {
        CHECK_EQUAL(os->sa_context_enum1(engine, handle, wanted, &page1, &returned), 0);
        CHECK_EQUAL(wfpsa_columns_append1(batch, page1, returned, NULL), WFPSA_OK);
    }
    CHECK(returned <= wanted);
    CHECK_EQUAL(page0 != NULL || page1 != NULL, returned > 0);
    os->free_memory((void **)&page0);
    os->free_memory((void **)&page1);
    CHECK(page0 == NULL && page1 == NULL);
    return returned;
}

static inline struct wfpsa_columns *
rest_of(HANDLE engine, HANDLE handle, uint32_t version, uint32_t page_size)
{
    struct wfpsa_columns *batch = wfpsa_columns_new(version);
    while (next_page(engine, handle, page_size, batch) == page_size) {
    }
    CHECK_EQUAL(wfpsa_columns_freeze(batch), WFPSA_OK);
    CHECK(is_sound(batch));
    return batch;
}

static inline struct wfpsa_columns *
everything(HANDLE engine, uint32_t version)
{
    HANDLE handle = begin(engine, NULL);
    struct wfpsa_columns *batch = rest_of(engine, handle, version, ALL);
    end(engine, handle);
    return batch;
}

/* The context of that id as a batch of one row, or NULL. */
static inline struct wfpsa_columns *
get(HANDLE engine, uint64_t id, uint32_t version)
{
    IPSEC_SA_CONTEXT0 *found0 = NULL;
    IPSEC_SA_CONTEXT1 *found1 = NULL;
    DWORD code =
        version == 0 ? os->sa_context_get_by_id0(engine, id, &found0) : os->sa_context_get_by_id1(engine, id, &found1);
    if (code != 0) {
        CHECK_EQUAL(code, (DWORD)FWP_E_NOT_FOUND);
        CHECK(found0 == NULL && found1 == NULL);
        return NULL;
    }
    struct wfpsa_columns *batch = wfpsa_columns_new(version);
    CHECK_EQUAL(version == 0 ? wfpsa_columns_append0(batch, &found0, 1, NULL)
                             : wfpsa_columns_append1(batch, &found1, 1, NULL),
                WFPSA_OK);
    os->free_memory((void **)&found0);
    os->free_memory((void **)&found1);
    CHECK_EQUAL(wfpsa_columns_freeze(batch), WFPSA_OK);
    return batch;
}

/* Which SAs the context of that id has: 1 for the inbound, 2 for the outbound, both added; -1 where there is none. */
static inline int
sides_of(HANDLE engine, uint64_t id)
{
    IPSEC_SA_CONTEXT1 *found = NULL;
    DWORD code = os->sa_context_get_by_id1(engine, id, &found);
    if (code != 0) {
        CHECK_EQUAL(code, (DWORD)FWP_E_NOT_FOUND);
        return -1;
    }
    int sides = (found->inboundSa ? 1 : 0) + (found->outboundSa ? 2 : 0);
    os->free_memory((void **)&found);
    return sides;
}

static inline IPSEC_SA_CONTEXT_ENUM_TEMPLATE0
empty_template(void)
{
    IPSEC_SA_CONTEXT_ENUM_TEMPLATE0 wanted;
    memset(&wanted, 0, sizeof wanted);
    return wanted;
}

static inline IPSEC_AGGREGATE_SA_STATISTICS0
statistics_of(HANDLE engine)
{
    IPSEC_STATISTICS1 statistics;
    memset(&statistics, 0xFF, sizeof statistics);
    CHECK_EQUAL(os->get_statistics1(engine, &statistics), 0);
    return statistics.aggregateSaStatistics;
}

/* ---- the making of contexts ---- */

/* Transport traffic from 10.0.0.1 to 10.1.0.0 + number. */
static inline IPSEC_TRAFFIC1
traffic_to(uint32_t number)
{
    IPSEC_TRAFFIC1 traffic;
    memset(&traffic, 0, sizeof traffic);
    traffic.ipVersion = FWP_IP_VERSION_V4;
    traffic.localV4Address = 0x0A000001;
    traffic.remoteV4Address = 0x0A010000 + number;
    traffic.trafficType = IPSEC_TRAFFIC_TYPE_TRANSPORT;
    traffic.ipsecFilterId = 0x20001;
    return traffic;
}

static inline IPSEC_TRAFFIC1
traffic6_to(uint8_t number)
{
    IPSEC_TRAFFIC1 traffic;
    memset(&traffic, 0, sizeof traffic);
    traffic.ipVersion = FWP_IP_VERSION_V6;
    memcpy(traffic.localV6Address, "\x20\x01\x0D\xB8\0\0\0\0\0\0\0\0\0\0\0\1", 16);
    memcpy(traffic.remoteV6Address, "\xFD\x12\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16);
    traffic.remoteV6Address[15] = number;
    traffic.trafficType = IPSEC_TRAFFIC_TYPE_TRANSPORT;
    traffic.ipsecFilterId = 0x20006;
    return traffic;
}

static inline IPSEC_GETSPI1
spi_for(const IPSEC_TRAFFIC1 *traffic)
{
    IPSEC_GETSPI1 wanted;
    memset(&wanted, 0, sizeof wanted);
    wanted.inboundIpsecTraffic = *traffic;
    wanted.ipVersion = traffic->ipVersion;
    return wanted;
}

/* A bundle and what it points to: it must stay where bundle_fill found it. */
struct bundle {
    IPSEC_SA_BUNDLE1 bundle;
    IPSEC_SA0 list[2];
    IPSEC_SA_AUTH_AND_CIPHER_INFORMATION0 esp;
    IPSEC_SA_AUTH_INFORMATION0 ah;
    IPSEC_ID0 identity;
    IPSEC_KEYMODULE_STATE0 key_module;
    UINT8 key[32];
    UINT8 state[8];
};

/* One ESP SA with SHA-1 and AES-128, without lifetimes; the rest is there to be pointed to. */
static inline IPSEC_SA_BUNDLE1 *
bundle_fill(struct bundle *filled, uint32_t spi, uint32_t qm_sa_id)
{
    memset(filled, 0, sizeof *filled);
    memset(filled->key, 0x5A, sizeof filled->key);
    filled->esp.saAuthInformation.authTransform.authTransformId.authType = IPSEC_AUTH_SHA_1;
    filled->esp.saAuthInformation.authTransform.authTransformId.authConfig = IPSEC_AUTH_CONFIG_HMAC_SHA_1_96;
    filled->esp.saAuthInformation.authKey.size = 20;
    filled->esp.saAuthInformation.authKey.data = filled->key;
    filled->esp.saCipherInformation.cipherTransform.cipherTransformId.cipherType = IPSEC_CIPHER_TYPE_AES_128;
    filled->esp.saCipherInformation.cipherTransform.cipherTransformId.cipherConfig = IPSEC_CIPHER_CONFIG_CBC_AES_128;
    filled->esp.saCipherInformation.cipherKey.size = 16;
    filled->esp.saCipherInformation.cipherKey.data = filled->key;
    filled->ah = filled->esp.saAuthInformation;
    filled->list[0].spi = spi;
    filled->list[0].saTransformType = IPSEC_TRANSFORM_ESP_AUTH_AND_CIPHER;
    filled->list[0].espAuthAndCipherInformation = &filled->esp;
    filled->list[1].spi = spi + 1;
    filled->list[1].saTransformType = IPSEC_TRANSFORM_AH;
    filled->list[1].ahInformation = &filled->ah;
    filled->bundle.numSAs = 1;
    filled->bundle.saList = filled->list;
    filled->bundle.qmSaId = qm_sa_id;
    filled->bundle.ipVersion = FWP_IP_VERSION_V4;
    filled->bundle.pfsGroup = IPSEC_PFS_2048;
    return &filled->bundle;
}

static inline uint64_t
create(HANDLE engine, const IPSEC_TRAFFIC1 *traffic)
{
    UINT64 id = 0;
    CHECK_EQUAL(os->sa_context_create1(engine, traffic, NULL, NULL, &id), 0);
    CHECK(id != 0);
    return id;
}

static inline uint32_t
get_spi(HANDLE engine, uint64_t id, const IPSEC_TRAFFIC1 *traffic)
{
    IPSEC_GETSPI1 wanted = spi_for(traffic);
    IPSEC_SA_SPI spi = 0;
    CHECK_EQUAL(os->sa_context_get_spi1(engine, id, &wanted, &spi), 0);
    CHECK(spi != 0);
    return spi;
}

/* A context with both SAs, keyed in the prescribed order; each ends after that many seconds (0: never). */
static inline uint64_t
keyed(HANDLE engine, const IPSEC_TRAFFIC1 *traffic, uint32_t seconds_in, uint32_t seconds_out)
{
    struct bundle filled;
    uint64_t id = create(engine, traffic);
    uint32_t spi = get_spi(engine, id, traffic);
    bundle_fill(&filled, spi, 77)->lifetime.lifetimeSeconds = seconds_in;
    CHECK_EQUAL(os->sa_context_add_inbound1(engine, id, &filled.bundle), 0);
    bundle_fill(&filled, 0x1000, 77)->lifetime.lifetimeSeconds = seconds_out;
    CHECK_EQUAL(os->sa_context_add_outbound1(engine, id, &filled.bundle), 0);
    return id;
}

/* ---- any function of the table by its name ---- */

/* What its functions are called with. */
struct with {
    HANDLE engine, enumeration, events;
    uint64_t id;
};

static inline void CALLBACK
ignore_change(void *context, const IPSEC_SA_CONTEXT_CHANGE0 *change)
{
    (void)context;
    (void)change;
}

/* Calls it once; what it hands out is given back. Opening and freeing, which take no engine handle, give 0 unasked. */
static inline DWORD
call_function(const char *function, const struct with *with)
{
    HANDLE engine = with->engine, made = NULL;
    IPSEC_TRAFFIC1 traffic = traffic_to(0xFFFF);
    IPSEC_GETSPI1 wanted = spi_for(&traffic);
    IPSEC_SA_CONTEXT_SUBSCRIPTION0 subscription, **subscriptions = NULL;
    IPSEC_SA_CONTEXT0 **page0 = NULL, *found0 = NULL;
    IPSEC_SA_CONTEXT1 **page1 = NULL, *found1 = NULL, values;
    IPSEC_STATISTICS1 statistics;
    IPSEC_SA_SPI spi;
    struct bundle filled;
    UINT32 returned = 0;
    UINT64 id = 0;
    DWORD code = 0;
    memset(&subscription, 0, sizeof subscription);
    memset(&values, 0, sizeof values);
    values.saContextId = with->id;
    bundle_fill(&filled, 0x1000, 1);
    if (strcmp(function, "FwpmEngineClose0") == 0) {
        code = os->engine_close(engine);
    } else if (strcmp(function, "FwpmTransactionBegin0") == 0) {
        code = os->transaction_begin(engine, 0);
    } else if (strcmp(function, "FwpmTransactionCommit0") == 0) {
        code = os->transaction_commit(engine);
    } else if (strcmp(function, "FwpmTransactionAbort0") == 0) {
        code = os->transaction_abort(engine);
    } else if (strcmp(function, "IPsecSaContextCreateEnumHandle0") == 0) {
        code = os->sa_context_create_enum_handle(engine, NULL, &made);
        if (code == 0) {
            os->sa_context_destroy_enum_handle(engine, made);
        }
    } else if (strcmp(function, "IPsecSaContextEnum0") == 0) {
        code = os->sa_context_enum0(engine, with->enumeration, 1, &page0, &returned);
    } else if (strcmp(function, "IPsecSaContextEnum1") == 0) {
        code = os->sa_context_enum1(engine, with->enumeration, 1, &page1, &returned);
    } else if (strcmp(function, "IPsecSaContextDestroyEnumHandle0") == 0) {
        code = os->sa_context_destroy_enum_handle(engine, with->enumeration);
    } else if (strcmp(function, "IPsecSaContextGetById0") == 0) {
        code = os->sa_context_get_by_id0(engine, with->id, &found0);
    } else if (strcmp(function, "IPsecSaContextGetById1") == 0) {
        code = os->sa_context_get_by_id1(engine, with->id, &found1);
    } else if (strcmp(function, "IPsecSaContextExpire0") == 0) {
        code = os->sa_context_expire(engine, with->id);
    } else if (strcmp(function, "IPsecSaContextDeleteById0") == 0) {
        code = os->sa_context_delete_by_id(engine, with->id);
    } else if (strcmp(function, "IPsecSaContextCreate1") == 0) {
        code = os->sa_context_create1(engine, &traffic, NULL, NULL, &id);
        if (code == 0) {
            os->sa_context_delete_by_id(engine, id);
        }
    } else if (strcmp(function, "IPsecSaContextGetSpi1") == 0) {
        code = os->sa_context_get_spi1(engine, with->id, &wanted, &spi);
    } else if (strcmp(function, "IPsecSaContextSetSpi0") == 0) {
        code = os->sa_context_set_spi(engine, with->id, &wanted, 0x1234);
    } else if (strcmp(function, "IPsecSaContextAddInbound1") == 0) {
        code = os->sa_context_add_inbound1(engine, with->id, &filled.bundle);
    } else if (strcmp(function, "IPsecSaContextAddOutbound1") == 0) {
        code = os->sa_context_add_outbound1(engine, with->id, &filled.bundle);
    } else if (strcmp(function, "IPsecSaContextUpdate0") == 0) {
        code = os->sa_context_update(engine, 0, &values);
    } else if (strcmp(function, "IPsecSaContextSubscribe0") == 0) {
        code = os->sa_context_subscribe(engine, &subscription, ignore_change, NULL, &made);
        if (code == 0) {
            os->sa_context_unsubscribe(engine, made);
        }
    } else if (strcmp(function, "IPsecSaContextUnsubscribe0") == 0) {
        code = os->sa_context_unsubscribe(engine, with->events);
    } else if (strcmp(function, "IPsecSaContextSubscriptionsGet0") == 0) {
        code = os->sa_context_subscriptions_get(engine, &subscriptions, &returned);
    } else if (strcmp(function, "IPsecGetStatistics1") == 0) {
        code = os->get_statistics1(engine, &statistics);
    }
    CHECK(code == 0 || (!page0 && !page1 && !found0 && !found1 && !subscriptions && !made && id == 0));
    os->free_memory((void **)&page0);
    os->free_memory((void **)&page1);
    os->free_memory((void **)&found0);
    os->free_memory((void **)&found1);
    os->free_memory((void **)&subscriptions);
    return code;
}

/* Whether it is one of those words, which are separated by spaces. */
static inline int
is_one_of(const char *word, const char *words)
{
    size_t length = strlen(word);
    for (const char *at = strstr(words, word); at; at = strstr(at + 1, word)) {
        if ((at == words || at[-1] == ' ') && (at[length] == ' ' || at[length] == 0)) {
            return 1;
        }
    }
    return 0;
}

/* The name of the index-th function that takes an engine handle, NULL past the last. */
static inline const char *
function_at(uint32_t index)
{
    uintptr_t address;
    const char *function = wfpsa_backend_function(os, 0, &address);
    for (uint32_t i = 0; function; function = wfpsa_backend_function(os, ++i, &address)) {
        if (!is_one_of(function, "FwpmEngineOpen0 FwpmFreeMemory0") && index-- == 0) {
            return function;
        }
    }
    return NULL;
}

#endif
