/* Manual keying: the order of the calls, what each refuses and shows, updates, duplicates, and the statistics of it
 * all.
 */
#include "scene.h"

#include "wfpsa/keying.h"

#define BAD_STATE ((DWORD)FWP_E_INCOMPATIBLE_SA_STATE)
#define NOT_FOUND ((DWORD)FWP_E_NOT_FOUND)
#define BAD_ENUM ((DWORD)FWP_E_INVALID_ENUMERATOR)
#define BAD_PARAMETER ((DWORD)FWP_E_INVALID_PARAMETER)
#define NULL_POINTER ((DWORD)FWP_E_NULL_POINTER)
#define OUT_OF_BOUNDS ((DWORD)FWP_E_OUT_OF_BOUNDS)

#define UPDATES_ALL 0x7Fu

static const GUID some_key_module = {0x01020304, 0x0506, 0x0708, {9, 10, 11, 12, 13, 14, 15, 16}};

static IPSEC_SA_CONTEXT1 *
get1(HANDLE engine, uint64_t id)
{
    IPSEC_SA_CONTEXT1 *found = NULL;
    CHECK_EQUAL(os->sa_context_get_by_id1(engine, id, &found), 0);
    return found;
}

static IPSEC_SA_CONTEXT0 *
get0(HANDLE engine, uint64_t id)
{
    IPSEC_SA_CONTEXT0 *found = NULL;
    CHECK_EQUAL(os->sa_context_get_by_id0(engine, id, &found), 0);
    return found;
}

/* What Enum and GetById of both versions show of a store's one context agrees; returns the sides that it has. */
static int
shown_alike(HANDLE engine, uint64_t id)
{
    for (uint32_t version = 0; version <= 1; version++) {
        struct wfpsa_columns *all = everything(engine, version), *one = get(engine, id, version);
        CHECK(one && all->length == 1 && same_rows(all, one));
        wfpsa_columns_release(all);
        wfpsa_columns_release(one);
    }
    return sides_of(engine, id);
}

static uint32_t
set_spi(HANDLE engine, uint64_t id, const IPSEC_TRAFFIC1 *traffic, uint32_t spi)
{
    IPSEC_GETSPI1 wanted = spi_for(traffic);
    return os->sa_context_set_spi(engine, id, &wanted, spi);
}

static uint32_t
try_spi(HANDLE engine, uint64_t id, const IPSEC_TRAFFIC1 *traffic)
{
    IPSEC_GETSPI1 wanted = spi_for(traffic);
    IPSEC_SA_SPI spi;
    return os->sa_context_get_spi1(engine, id, &wanted, &spi);
}

/* ---- the order ---- */

static void
each_step_is_refused_out_of_order_and_changes_nothing(void)
{
    struct wfpsa_store *store = empty_store();
    HANDLE engine = open_engine(store);
    IPSEC_TRAFFIC1 traffic = traffic_to(5);
    struct bundle filled;
    IPSEC_AGGREGATE_SA_STATISTICS0 statistics;
    wfpsa_store_clock(store, 1);
    uint64_t id = create(engine, &traffic);
    bundle_fill(&filled, 0x1000, 7);
    CHECK_EQUAL(shown_alike(engine, id), 0);
    CHECK_EQUAL(os->sa_context_add_inbound1(engine, id, &filled.bundle), BAD_STATE);
    CHECK_EQUAL(os->sa_context_add_outbound1(engine, id, &filled.bundle), BAD_STATE);
    CHECK_EQUAL(shown_alike(engine, id), 0);

    uint32_t spi = get_spi(engine, id, &traffic);
    CHECK(spi >= 0x100);
    CHECK_EQUAL(shown_alike(engine, id), 0);
    CHECK_EQUAL(os->sa_context_add_outbound1(engine, id, &filled.bundle), BAD_STATE);
    CHECK_EQUAL(shown_alike(engine, id), 0);
    statistics = statistics_of(engine);
    CHECK(statistics.pendingSaNegotiations == 1 && statistics.activeSas == 0 && statistics.totalSasAdded == 0);

    bundle_fill(&filled, spi, 7);
    CHECK_EQUAL(os->sa_context_add_inbound1(engine, id, &filled.bundle), 0);
    CHECK_EQUAL(shown_alike(engine, id), 1);
    CHECK_EQUAL(os->sa_context_add_inbound1(engine, id, &filled.bundle), BAD_STATE);
    CHECK_EQUAL(try_spi(engine, id, &traffic), BAD_STATE);
    CHECK_EQUAL(set_spi(engine, id, &traffic, 0x777), BAD_STATE);
    CHECK_EQUAL(shown_alike(engine, id), 1);
    statistics = statistics_of(engine);
    CHECK(statistics.pendingSaNegotiations == 1 && statistics.activeSas == 1 && statistics.totalSasAdded == 1);

    bundle_fill(&filled, 0x1000, 7);
    CHECK_EQUAL(os->sa_context_add_outbound1(engine, id, &filled.bundle), 0);
    CHECK_EQUAL(shown_alike(engine, id), 3);
    CHECK_EQUAL(os->sa_context_add_outbound1(engine, id, &filled.bundle), BAD_STATE);
    CHECK_EQUAL(os->sa_context_add_inbound1(engine, id, &filled.bundle), BAD_STATE);
    CHECK_EQUAL(try_spi(engine, id, &traffic), BAD_STATE);
    statistics = statistics_of(engine);
    CHECK(statistics.pendingSaNegotiations == 0 && statistics.activeSas == 2 && statistics.totalSasAdded == 2);

    CHECK_EQUAL(os->sa_context_expire(engine, id), 0);
    CHECK_EQUAL(os->sa_context_add_outbound1(engine, id, &filled.bundle), BAD_STATE);
    CHECK_EQUAL(os->sa_context_add_inbound1(engine, id, &filled.bundle), BAD_STATE);
    CHECK_EQUAL(try_spi(engine, id, &traffic), BAD_STATE);
    CHECK_EQUAL(shown_alike(engine, id), 1);
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
an_expired_context_that_had_no_outbound_sa_gets_none(void)
{
    struct wfpsa_store *store = empty_store();
    HANDLE engine = open_engine(store);
    IPSEC_TRAFFIC1 traffic = traffic_to(5);
    struct bundle filled;
    wfpsa_store_clock(store, 1);
    uint64_t id = create(engine, &traffic);
    bundle_fill(&filled, get_spi(engine, id, &traffic), 7);
    CHECK_EQUAL(os->sa_context_add_inbound1(engine, id, &filled.bundle), 0);
    CHECK_EQUAL(os->sa_context_expire(engine, id), 0);
    CHECK_EQUAL(os->sa_context_add_outbound1(engine, id, &filled.bundle), BAD_STATE);
    CHECK_EQUAL(sides_of(engine, id), 1);
    wfpsa_store_advance(store, 60000);
    CHECK_EQUAL(sides_of(engine, id), -1);
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
half_built_contexts_end_at_once_with_their_expiry(void)
{
    struct wfpsa_store *store = empty_store();
    HANDLE engine = open_engine(store);
    IPSEC_TRAFFIC1 traffic = traffic_to(5), other = traffic_to(5);
    other.remotePort = 80;
    uint64_t created = create(engine, &traffic), with_spi = create(engine, &traffic);
    get_spi(engine, with_spi, &other);
    CHECK_EQUAL(os->sa_context_expire(engine, created), 0);
    CHECK_EQUAL(os->sa_context_expire(engine, with_spi), 0);
    CHECK_EQUAL(wfpsa_store_count(store), 0);
    CHECK_EQUAL(statistics_of(engine).pendingSaNegotiations, 0);
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
an_unknown_id_is_not_found_by_any_call(void)
{
    static const uint64_t ids[] = {0, 1, 0x100000002, UINT64_MAX};
    struct wfpsa_store *store = empty_store();
    HANDLE engine = open_engine(store);
    IPSEC_TRAFFIC1 traffic = traffic_to(1);
    create(engine, &traffic);
    for (size_t i = 0; i < COUNT(ids); i++) {
        struct bundle filled;
        IPSEC_SA_CONTEXT1 values = {ids[i], NULL, NULL};
        bundle_fill(&filled, 1, 1);
        CHECK_EQUAL(try_spi(engine, ids[i], &traffic), NOT_FOUND);
        CHECK_EQUAL(set_spi(engine, ids[i], &traffic, 5), NOT_FOUND);
        CHECK_EQUAL(os->sa_context_add_inbound1(engine, ids[i], &filled.bundle), NOT_FOUND);
        CHECK_EQUAL(os->sa_context_add_outbound1(engine, ids[i], &filled.bundle), NOT_FOUND);
        CHECK_EQUAL(os->sa_context_update(engine, 0, &values), NOT_FOUND);
    }
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
a_null_pointer_is_refused_wherever_something_is_needed(void)
{
    struct wfpsa_store *store = empty_store();
    HANDLE engine = open_engine(store);
    IPSEC_TRAFFIC1 traffic = traffic_to(1);
    IPSEC_GETSPI1 wanted = spi_for(&traffic);
    IPSEC_SA_SPI spi;
    UINT64 id = create(engine, &traffic), made, hint = 99;
    CHECK_EQUAL(os->sa_context_create1(engine, NULL, NULL, NULL, &made), NULL_POINTER);
    CHECK_EQUAL(os->sa_context_create1(engine, &traffic, NULL, &hint, NULL), NULL_POINTER);
    CHECK_EQUAL(os->sa_context_get_spi1(engine, id, NULL, &spi), NULL_POINTER);
    CHECK_EQUAL(os->sa_context_get_spi1(engine, id, &wanted, NULL), NULL_POINTER);
    CHECK_EQUAL(os->sa_context_set_spi(engine, id, NULL, 5), NULL_POINTER);
    CHECK_EQUAL(os->sa_context_add_inbound1(engine, id, NULL), NULL_POINTER);
    CHECK_EQUAL(os->sa_context_add_outbound1(engine, id, NULL), NULL_POINTER);
    CHECK_EQUAL(os->sa_context_update(engine, 0, NULL), NULL_POINTER);
    CHECK_EQUAL(os->get_statistics1(engine, NULL), NULL_POINTER);
    CHECK_EQUAL(wfpsa_store_count(store), 1);
    CHECK_EQUAL(os->sa_context_create1(engine, &traffic, NULL, &hint, &made), 0);
    CHECK(hint == 0 && made != id); /* a hint that this engine never has */
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
a_dynamic_session_creates_nothing_but_goes_on_with_what_there_is(void)
{
    struct wfpsa_store *store = empty_store();
    HANDLE engine = open_engine(store), dynamic = open_with(store, FWPM_SESSION_FLAG_DYNAMIC);
    IPSEC_TRAFFIC1 traffic = traffic_to(1);
    struct bundle filled;
    UINT64 id = 0;
    CHECK_EQUAL(os->sa_context_create1(dynamic, &traffic, NULL, NULL, &id), (DWORD)FWP_E_DYNAMIC_SESSION_IN_PROGRESS);
    CHECK(id == 0 && wfpsa_store_count(store) == 0);
    id = create(engine, &traffic);
    CHECK_EQUAL(os->sa_context_delete_by_id(dynamic, id), (DWORD)FWP_E_DYNAMIC_SESSION_IN_PROGRESS);
    bundle_fill(&filled, get_spi(dynamic, id, &traffic), 1);
    CHECK_EQUAL(os->sa_context_add_inbound1(dynamic, id, &filled.bundle), 0);
    CHECK_EQUAL(os->sa_context_add_outbound1(dynamic, id, &filled.bundle), 0);
    close_engine(engine); /* contexts are no session's own */
    CHECK_EQUAL(sides_of(dynamic, id), 3);
    close_engine(dynamic);
    CHECK_EQUAL(wfpsa_store_count(store), 1);
    wfpsa_store_release(store);
}

static void
each_profile_may_key_as_the_default_access_list_grants(void)
{
    static const char *const functions[] = {"IPsecSaContextCreate1",      "IPsecSaContextGetSpi1",
                                            "IPsecSaContextSetSpi0",      "IPsecSaContextAddInbound1",
                                            "IPsecSaContextAddOutbound1", "IPsecSaContextUpdate0"};
    for (int rights = WFPSA_RIGHTS_ADMINISTRATOR; rights <= WFPSA_RIGHTS_EVERYONE; rights++) {
        struct wfpsa_store *store = make_store(5, 0);
        int may = rights <= WFPSA_RIGHTS_NETWORK_OPERATOR;
        wfpsa_store_rights(store, (enum wfpsa_rights)rights);
        struct with with = {open_engine(store), NULL, NULL, 1};
        for (size_t i = 0; i < COUNT(functions); i++) {
            DWORD code = call_function(functions[i], &with);
            CHECK_EQUAL(code, !may ? ERROR_ACCESS_DENIED : i == 0 ? 0 : NOT_FOUND);
        }
        CHECK_EQUAL(call_function("IPsecGetStatistics1", &with),
                    rights == WFPSA_RIGHTS_EVERYONE ? ERROR_ACCESS_DENIED : 0);
        close_engine(with.engine);
        wfpsa_store_release(store);
    }
}

/* ---- traffic and SPIs ---- */

static void
bad_traffic_is_refused_at_creation(void)
{
    static const uint32_t bad[] = {2, 3, 255, UINT32_MAX};
    struct wfpsa_store *store = empty_store();
    HANDLE engine = open_engine(store);
    UINT64 id = 0;
    for (size_t i = 0; i < COUNT(bad); i++) {
        IPSEC_TRAFFIC1 version = traffic_to(1), type = traffic_to(1);
        version.ipVersion = (FWP_IP_VERSION)bad[i];
        type.trafficType = (IPSEC_TRAFFIC_TYPE)bad[i];
        CHECK_EQUAL(os->sa_context_create1(engine, &version, NULL, NULL, &id), BAD_ENUM);
        CHECK_EQUAL(os->sa_context_create1(engine, &type, NULL, NULL, &id), BAD_ENUM);
    }
    for (int i = 0; i < 3; i++) { /* a tunnel's traffic is not specialised */
        IPSEC_TRAFFIC1 tunnel = traffic_to(1);
        tunnel.trafficType = IPSEC_TRAFFIC_TYPE_TUNNEL;
        tunnel.remotePort = i == 0;
        tunnel.localPort = i == 1;
        tunnel.ipProtocol = i == 2;
        CHECK_EQUAL(os->sa_context_create1(engine, &tunnel, NULL, NULL, &id), BAD_PARAMETER);
    }
    CHECK(id == 0 && wfpsa_store_count(store) == 0);
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
the_spi_is_for_traffic_between_the_same_ends(void)
{
    struct wfpsa_store *store = empty_store();
    HANDLE engine = open_engine(store);
    IPSEC_TRAFFIC1 traffic = traffic_to(1), other[4] = {traffic, traffic, traffic, traffic6_to(1)}, bad = traffic;
    uint64_t id = create(engine, &traffic);
    other[0].localV4Address++;
    other[1].remoteV4Address++;
    other[2].trafficType = IPSEC_TRAFFIC_TYPE_TUNNEL;
    for (size_t i = 0; i < COUNT(other); i++) {
        CHECK_EQUAL(try_spi(engine, id, &other[i]), (DWORD)FWP_E_TRAFFIC_MISMATCH);
        CHECK_EQUAL(set_spi(engine, id, &other[i], 0x500), (DWORD)FWP_E_TRAFFIC_MISMATCH);
    }
    bad.ipVersion = FWP_IP_VERSION_NONE;
    CHECK_EQUAL(try_spi(engine, id, &bad), BAD_ENUM);
    CHECK_EQUAL(set_spi(engine, id, &traffic, 0), BAD_PARAMETER);
    CHECK_EQUAL(shown_alike(engine, id), 0);
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
an_spi_can_be_had_again_for_the_same_traffic_and_no_other(void)
{
    struct wfpsa_store *store = empty_store();
    HANDLE engine = open_engine(store);
    IPSEC_TRAFFIC1 traffic = traffic_to(1), inbound = traffic, changed;
    inbound.remotePort = 443;
    inbound.ipsecFilterId = 0x30001;
    uint64_t id = create(engine, &traffic);
    uint32_t spi = get_spi(engine, id, &inbound);
    CHECK_EQUAL(get_spi(engine, id, &inbound), spi);
    CHECK_EQUAL(try_spi(engine, id, &traffic), (DWORD)FWP_E_TRAFFIC_MISMATCH);
    for (int i = 0; i < 6; i++) {
        changed = inbound;
        changed.remotePort += i == 0;
        changed.localPort += i == 1;
        changed.ipProtocol += i == 2;
        changed.localIfLuid += i == 3;
        changed.realIfProfileId += i == 4;
        changed.ipsecFilterId += i == 5;
        CHECK_EQUAL(try_spi(engine, id, &changed), (DWORD)FWP_E_TRAFFIC_MISMATCH);
    }
    CHECK_EQUAL(set_spi(engine, id, &inbound, 0xABCDEF), 0); /* a chosen one instead */
    CHECK_EQUAL(get_spi(engine, id, &inbound), 0xABCDEF);
    struct bundle filled;
    bundle_fill(&filled, spi, 3);
    CHECK_EQUAL(os->sa_context_add_inbound1(engine, id, &filled.bundle), BAD_PARAMETER);
    bundle_fill(&filled, 0xABCDEF, 3);
    CHECK_EQUAL(os->sa_context_add_inbound1(engine, id, &filled.bundle), 0);
    bundle_fill(&filled, 0x1000, 4); /* a pair has one quick-mode id */
    CHECK_EQUAL(os->sa_context_add_outbound1(engine, id, &filled.bundle), BAD_PARAMETER);
    CHECK_EQUAL(shown_alike(engine, id), 1);
    bundle_fill(&filled, 0x1000, 3);
    CHECK_EQUAL(os->sa_context_add_outbound1(engine, id, &filled.bundle), 0);
    IPSEC_SA_CONTEXT1 *found = get1(engine, id);
    CHECK_EQUAL(found->inboundSa->traffic.remotePort, 443);
    CHECK_EQUAL(found->inboundSa->traffic.ipsecFilterId, 0x30001);
    CHECK_EQUAL(found->outboundSa->traffic.remotePort, 0);
    CHECK_EQUAL(found->outboundSa->traffic.ipsecFilterId, 0x20001);
    CHECK_EQUAL(found->inboundSa->saBundle.saList[0].spi, 0xABCDEF);
    CHECK_EQUAL(found->outboundSa->saBundle.saList[0].spi, 0x1000);
    os->free_memory((void **)&found);
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
spis_of_the_engines_choice_differ(void)
{
    enum { MANY = 200 };
    static uint32_t spis[MANY];
    struct wfpsa_store *store = empty_store();
    HANDLE engine = open_engine(store);
    for (uint32_t i = 0; i < MANY; i++) {
        IPSEC_TRAFFIC1 traffic = traffic_to(i);
        spis[i] = get_spi(engine, create(engine, &traffic), &traffic);
        for (uint32_t j = 0; j < i; j++) {
            CHECK(spis[i] != spis[j]);
        }
    }
    close_engine(engine);
    wfpsa_store_release(store);
}

/* ---- bundles ---- */

static void
bad_bundle(struct bundle *filled, int which)
{
    IPSEC_SA_AUTH_INFORMATION0 *auth = &filled->esp.saAuthInformation;
    IPSEC_SA_CIPHER_INFORMATION0 *cipher = &filled->esp.saCipherInformation;
    switch (which) {
    case 0:
        filled->bundle.numSAs = 0;
        break;
    case 1:
        filled->bundle.numSAs = 3;
        break;
    case 2: /* two, but both ESP */
        filled->bundle.numSAs = 2;
        filled->list[1] = filled->list[0];
        break;
    case 3: /* AH first */
        filled->bundle.numSAs = 2;
        filled->list[0].saTransformType = IPSEC_TRANSFORM_AH;
        filled->list[0].ahInformation = &filled->ah;
        break;
    case 4:
        filled->bundle.saList = NULL;
        break;
    case 5:
        filled->list[0].espAuthAndCipherInformation = NULL;
        break;
    case 6:
        auth->authKey.data = NULL;
        break;
    case 7:
        cipher->cipherKey.data = NULL;
        break;
    case 8:
        filled->bundle.keyModuleState = &filled->key_module;
        filled->key_module.stateBlob.size = 1;
        break;
    case 9:
        filled->bundle.pfsGroup = IPSEC_PFS_MAX;
        break;
    case 10:
        filled->bundle.ipVersion = FWP_IP_VERSION_MAX;
        break;
    case 11:
        filled->list[0].saTransformType = (IPSEC_TRANSFORM_TYPE)0;
        break;
    case 12:
        filled->list[0].saTransformType = IPSEC_TRANSFORM_TYPE_MAX;
        break;
    case 13:
        auth->authTransform.authTransformId.authType = IPSEC_AUTH_MAX;
        break;
    case 14:
        cipher->cipherTransform.cipherTransformId.cipherType = (IPSEC_CIPHER_TYPE)0;
        break;
    case 15:
        cipher->cipherTransform.cipherTransformId.cipherType = IPSEC_CIPHER_TYPE_MAX;
        break;
    case 16:
        auth->authTransform.authTransformId.authConfig = 6;
        break;
    case 17:
        cipher->cipherTransform.cipherTransformId.cipherConfig = 0;
        break;
    case 18:
        cipher->cipherTransform.cipherTransformId.cipherConfig = 9;
        break;
    case 19:
        auth->authKey.size = 256;
        break;
    case 20:
        cipher->cipherKey.size = 256;
        break;
    case 21:
        filled->bundle.keyModuleState = &filled->key_module;
        filled->key_module.stateBlob.size = 65537;
        filled->key_module.stateBlob.data = filled->state;
        break;
    case 22: /* the second SA is looked at as well */
        filled->bundle.numSAs = 2;
        filled->ah.authTransform.authTransformId.authType = IPSEC_AUTH_MAX;
        break;
    default:
        break;
    }
}

static void
bad_bundles_are_refused_by_the_code_made_for_each_and_add_nothing(void)
{
    static const uint32_t codes[] = {
        BAD_PARAMETER, BAD_PARAMETER, BAD_PARAMETER, BAD_PARAMETER, NULL_POINTER, NULL_POINTER,
        NULL_POINTER,  NULL_POINTER,  NULL_POINTER,  BAD_ENUM,      BAD_ENUM,     BAD_ENUM,
        BAD_ENUM,      BAD_ENUM,      BAD_ENUM,      BAD_ENUM,      0x80320038,   0x80320039,
        0x80320039,    OUT_OF_BOUNDS, OUT_OF_BOUNDS, OUT_OF_BOUNDS, BAD_ENUM,
    };
    static WCHAR too_long[32770];
    struct wfpsa_store *store = empty_store();
    HANDLE engine = open_engine(store);
    IPSEC_TRAFFIC1 traffic = traffic_to(1);
    struct bundle filled;
    uint64_t id = create(engine, &traffic);
    uint32_t spi = get_spi(engine, id, &traffic);
    for (size_t i = 0; i < 32768; i++) {
        too_long[i] = 'x';
    }
    for (int outbound = 0; outbound <= 1; outbound++) {
        DWORD(WINAPI * add)(HANDLE, UINT64, const IPSEC_SA_BUNDLE1 *) =
            outbound ? os->sa_context_add_outbound1 : os->sa_context_add_inbound1;
        for (int i = 0; i < (int)COUNT(codes); i++) {
            bundle_fill(&filled, spi, 1);
            bad_bundle(&filled, i);
            if (!CHECK_EQUAL(add(engine, id, &filled.bundle), codes[i])) {
                fprintf(stderr, "bundle %d\n", i);
            }
        }
        for (int extended = 0; extended <= 1; extended++) {
            bundle_fill(&filled, spi, 1)->ipsecId = &filled.identity;
            *(extended ? &filled.identity.emTargetName : &filled.identity.mmTargetName) = too_long;
            CHECK_EQUAL(add(engine, id, &filled.bundle), OUT_OF_BOUNDS);
        }
        CHECK_EQUAL(shown_alike(engine, id), outbound);
        bundle_fill(&filled, spi, 1)->ipsecId = &filled.identity;
        too_long[32767] = 0; /* the longest there may be */
        filled.identity.mmTargetName = too_long;
        CHECK_EQUAL(add(engine, id, &filled.bundle), 0);
        too_long[32767] = 'x';
    }
    CHECK_EQUAL(shown_alike(engine, id), 3);
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
every_transform_is_shown_as_it_was_given(void)
{
    struct wfpsa_store *store = empty_store();
    HANDLE engine = open_engine(store);
    for (uint32_t transform = IPSEC_TRANSFORM_AH; transform < IPSEC_TRANSFORM_TYPE_MAX; transform++) {
        IPSEC_TRAFFIC1 traffic = traffic_to(transform);
        struct bundle filled;
        uint64_t id = create(engine, &traffic);
        bundle_fill(&filled, get_spi(engine, id, &traffic), 1);
        filled.list[0].saTransformType = (IPSEC_TRANSFORM_TYPE)transform;
        if (transform == IPSEC_TRANSFORM_ESP_CIPHER) {
            filled.list[0].espCipherInformation = &filled.esp.saCipherInformation;
        } else if (transform != IPSEC_TRANSFORM_ESP_AUTH_AND_CIPHER) {
            filled.list[0].ahInformation = &filled.ah;
        }
        CHECK_EQUAL(os->sa_context_add_inbound1(engine, id, &filled.bundle), 0);
        IPSEC_SA_CONTEXT1 *found = get1(engine, id);
        const IPSEC_SA0 *sa = found->inboundSa->saBundle.saList;
        CHECK_EQUAL(sa->saTransformType, transform);
        if (transform == IPSEC_TRANSFORM_ESP_CIPHER) {
            CHECK_EQUAL(sa->espCipherInformation->cipherTransform.cipherTransformId.cipherType,
                        IPSEC_CIPHER_TYPE_AES_128);
            CHECK_EQUAL(sa->espCipherInformation->cipherKey.size, 16);
            CHECK_BYTES(sa->espCipherInformation->cipherKey.data, WFPSA_KEY_MARK, 16); /* none of the key given */
        } else if (transform == IPSEC_TRANSFORM_ESP_AUTH_AND_CIPHER) {
            CHECK_EQUAL(sa->espAuthAndCipherInformation->saAuthInformation.authKey.size, 20);
            CHECK_EQUAL(sa->espAuthAndCipherInformation->saCipherInformation.cipherKey.size, 16);
        } else {
            CHECK_EQUAL(sa->ahInformation->authTransform.authTransformId.authType, IPSEC_AUTH_SHA_1);
            CHECK_EQUAL(sa->ahInformation->authKey.size, 20);
        }
        os->free_memory((void **)&found);
    }
    close_engine(engine);
    wfpsa_store_release(store);
}

/* All that a bundle can say. */
static IPSEC_SA_BUNDLE1 *
rich_bundle(struct bundle *filled, uint32_t spi)
{
    static WCHAR main_mode[] = u"CN=Zo\u00EB", extended_mode[] = u"CORP\\user";
    IPSEC_SA_BUNDLE1 *bundle = bundle_fill(filled, spi, 0x71);
    bundle->flags = IPSEC_SA_BUNDLE_FLAG_ND_SECURE | 0x80000000;
    bundle->lifetime.lifetimeSeconds = 100000;
    bundle->lifetime.lifetimeKilobytes = 200000;
    bundle->lifetime.lifetimePackets = 300000;
    bundle->idleTimeoutSeconds = 400000;
    bundle->ndAllowClearTimeoutSeconds = 5;
    bundle->ipsecId = &filled->identity;
    filled->identity.mmTargetName = main_mode;
    filled->identity.emTargetName = extended_mode;
    filled->identity.explicitCredentials = 0x1234567812345678; /* handle-like: not kept */
    bundle->napContext = 6;
    bundle->numSAs = 2;
    bundle->keyModuleState = &filled->key_module;
    filled->key_module.keyModuleKey = some_key_module;
    filled->key_module.stateBlob.size = sizeof filled->state;
    filled->key_module.stateBlob.data = filled->state;
    bundle->peerV4PrivateAddress = 0xC0A80107;
    bundle->mmSaId = 0x8000000000000001;
    bundle->pfsGroup = IPSEC_PFS_ECP_384;
    bundle->saLookupContext.Data1 = 0xABCD;
    bundle->qmFilterId = 0x9000000000000009;
    return bundle;
}

static void
all_of_a_bundle_is_shown_by_both_versions(void)
{
    struct wfpsa_store *store = empty_store();
    HANDLE engine = open_engine(store);
    IPSEC_TRAFFIC1 traffic = traffic_to(1);
    struct bundle filled;
    traffic.localPort = 445;
    traffic.remotePort = 50000;
    traffic.ipProtocol = 6;
    traffic.localIfLuid = 0x0006000001000000;
    traffic.realIfProfileId = 3;
    uint64_t id = create(engine, &traffic);
    rich_bundle(&filled, get_spi(engine, id, &traffic));
    CHECK_EQUAL(os->sa_context_add_inbound1(engine, id, &filled.bundle), 0);
    filled.list[0].spi = 0x2000;
    CHECK_EQUAL(os->sa_context_add_outbound1(engine, id, &filled.bundle), 0);
    CHECK_EQUAL(shown_alike(engine, id), 3);
    IPSEC_SA_CONTEXT1 *found = get1(engine, id);
    IPSEC_SA_CONTEXT0 *old = get0(engine, id);
    const IPSEC_SA_DETAILS1 *details = found->outboundSa;
    const IPSEC_SA_BUNDLE1 *bundle = &details->saBundle, *given = &filled.bundle;
    CHECK_EQUAL(details->ipVersion, FWP_IP_VERSION_V4);
    CHECK_EQUAL(details->saDirection, FWP_DIRECTION_OUTBOUND);
    CHECK_EQUAL(found->inboundSa->saDirection, FWP_DIRECTION_INBOUND);
    CHECK_EQUAL(details->traffic.remotePort, 50000);
    CHECK_EQUAL(details->traffic.localPort, 445);
    CHECK_EQUAL(details->traffic.ipProtocol, 6);
    CHECK_EQUAL(details->traffic.localIfLuid, traffic.localIfLuid);
    CHECK_EQUAL(details->traffic.realIfProfileId, 3);
    CHECK(details->transportFilter == NULL && details->udpEncapsulation == NULL);
    CHECK_EQUAL(bundle->flags, given->flags);
    CHECK_BYTES(&bundle->lifetime, &given->lifetime, sizeof bundle->lifetime);
    CHECK_EQUAL(bundle->idleTimeoutSeconds, given->idleTimeoutSeconds);
    CHECK_EQUAL(bundle->ndAllowClearTimeoutSeconds, given->ndAllowClearTimeoutSeconds);
    CHECK_BYTES(bundle->ipsecId->mmTargetName, filled.identity.mmTargetName, 14);
    CHECK_BYTES(bundle->ipsecId->emTargetName, filled.identity.emTargetName, 20);
    CHECK_EQUAL(bundle->ipsecId->explicitCredentials, 0);
    CHECK_EQUAL(bundle->napContext, 6);
    CHECK_EQUAL(bundle->qmSaId, 0x71);
    CHECK_EQUAL(bundle->numSAs, 2);
    CHECK_EQUAL(bundle->saList[0].spi, 0x2000);
    CHECK_EQUAL(bundle->saList[1].spi, filled.list[1].spi);
    CHECK_EQUAL(bundle->saList[1].saTransformType, IPSEC_TRANSFORM_AH);
    CHECK_BYTES(&bundle->keyModuleState->keyModuleKey, &some_key_module, sizeof(GUID));
    CHECK_EQUAL(bundle->keyModuleState->stateBlob.size, sizeof filled.state);
    CHECK_BYTES(bundle->keyModuleState->stateBlob.data, WFPSA_KEY_MARK, sizeof filled.state);
    CHECK_EQUAL(bundle->peerV4PrivateAddress, given->peerV4PrivateAddress);
    CHECK_EQUAL(bundle->mmSaId, given->mmSaId);
    CHECK_EQUAL(bundle->pfsGroup, given->pfsGroup);
    CHECK_BYTES(&bundle->saLookupContext, &given->saLookupContext, sizeof(GUID));
    CHECK_EQUAL(bundle->qmFilterId, given->qmFilterId);
    CHECK_EQUAL(old->outboundSa->saBundle.saList[1].spi, filled.list[1].spi);
    CHECK_EQUAL(old->outboundSa->saBundle.mmSaId, given->mmSaId);
    CHECK_EQUAL(old->outboundSa->traffic.remotePort, 50000);
    os->free_memory((void **)&found);
    os->free_memory((void **)&old);
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
encapsulation_of_ipv4_is_shown_in_both_directions_and_ipv6_has_none(void)
{
    struct wfpsa_store *store = empty_store();
    HANDLE engine = open_engine(store);
    for (int v6 = 0; v6 <= 1; v6++) {
        IPSEC_TRAFFIC1 traffic = v6 ? traffic6_to(9) : traffic_to(9);
        IPSEC_GETSPI1 wanted = spi_for(&traffic);
        IPSEC_V4_UDP_ENCAPSULATION0 encapsulation = {4500, 1024};
        IPSEC_SA_SPI spi;
        struct bundle filled;
        uint64_t id = create(engine, &traffic);
        wanted.inboundUdpEncapsulation = &encapsulation;
        CHECK_EQUAL(os->sa_context_get_spi1(engine, id, &wanted, &spi), 0);
        bundle_fill(&filled, spi, 1)->ipVersion = v6 ? FWP_IP_VERSION_V6 : FWP_IP_VERSION_V4;
        filled.bundle.peerV4PrivateAddress = 0xC0A80101;
        CHECK_EQUAL(os->sa_context_add_inbound1(engine, id, &filled.bundle), 0);
        filled.list[0].spi = 0x3000;
        CHECK_EQUAL(os->sa_context_add_outbound1(engine, id, &filled.bundle), 0);
        IPSEC_SA_CONTEXT1 *found = get1(engine, id);
        IPSEC_SA_CONTEXT0 *old = get0(engine, id);
        const IPSEC_SA_DETAILS1 *both[2] = {found->inboundSa, found->outboundSa};
        for (int i = 0; i < 2; i++) {
            CHECK_EQUAL(both[i]->ipVersion, v6 ? FWP_IP_VERSION_V6 : FWP_IP_VERSION_V4);
            CHECK_EQUAL(both[i]->udpEncapsulation == NULL, v6);
            if (!v6) {
                CHECK_EQUAL(both[i]->udpEncapsulation->localUdpEncapPort, 4500);
                CHECK_EQUAL(both[i]->udpEncapsulation->remoteUdpEncapPort, 1024);
            }
            CHECK_EQUAL(both[i]->saBundle.peerV4PrivateAddress, v6 ? 0 : 0xC0A80101);
            CHECK_BYTES(&both[i]->traffic.remoteV6Address, &traffic.remoteV6Address, v6 ? 16 : 4);
            CHECK_BYTES(&both[i]->traffic.localV6Address, &traffic.localV6Address, v6 ? 16 : 4);
        }
        CHECK_EQUAL(old->inboundSa->udpEncapsulation == NULL, v6);
        os->free_memory((void **)&found);
        os->free_memory((void **)&old);
        CHECK_EQUAL(os->sa_context_delete_by_id(engine, id), 0);
    }
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
tunnel_ids_of_the_creation_are_shown_in_both_directions(void)
{
    struct wfpsa_store *store = empty_store();
    HANDLE engine = open_engine(store);
    IPSEC_TRAFFIC1 traffic = traffic_to(9);
    IPSEC_VIRTUAL_IF_TUNNEL_INFO0 tunnel = {0x1122334455667788, 0x99};
    struct bundle filled;
    UINT64 id;
    traffic.trafficType = IPSEC_TRAFFIC_TYPE_TUNNEL;
    traffic.tunnelPolicyId = 0x40004;
    CHECK_EQUAL(os->sa_context_create1(engine, &traffic, &tunnel, NULL, &id), 0);
    bundle_fill(&filled, get_spi(engine, id, &traffic), 1)->saLookupContext.Data1 = 17;
    CHECK_EQUAL(os->sa_context_add_inbound1(engine, id, &filled.bundle), 0);
    CHECK_EQUAL(statistics_of(engine).activeTunnels, 1);
    bundle_fill(&filled, 0x3000, 1);
    CHECK_EQUAL(os->sa_context_add_outbound1(engine, id, &filled.bundle), 0);
    IPSEC_SA_CONTEXT1 *found = get1(engine, id);
    CHECK_BYTES(&found->inboundSa->virtualIfTunnelInfo, &tunnel, sizeof tunnel);
    CHECK_BYTES(&found->outboundSa->virtualIfTunnelInfo, &tunnel, sizeof tunnel);
    CHECK_EQUAL(found->inboundSa->saBundle.saLookupContext.Data1, 17);
    CHECK_EQUAL(found->outboundSa->saBundle.saLookupContext.Data1, 0);
    CHECK_EQUAL(found->outboundSa->traffic.tunnelPolicyId, 0x40004);
    CHECK_EQUAL(found->outboundSa->traffic.trafficType, IPSEC_TRAFFIC_TYPE_TUNNEL);
    os->free_memory((void **)&found);
    CHECK_EQUAL(statistics_of(engine).activeTunnels, 1); /* of two SAs */
    CHECK_EQUAL(os->sa_context_delete_by_id(engine, id), 0);
    CHECK_EQUAL(statistics_of(engine).activeTunnels, 0);
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
key_blobs_of_results_hold_what_the_switch_says(void)
{
    static const char *const choices[] = {"marked", "zeroed", "empty"};
    struct wfpsa_store *store = empty_store();
    HANDLE engine = open_engine(store);
    IPSEC_TRAFFIC1 traffic = traffic_to(1);
    struct bundle filled;
    uint64_t id = create(engine, &traffic);
    rich_bundle(&filled, get_spi(engine, id, &traffic));
    CHECK_EQUAL(os->sa_context_add_inbound1(engine, id, &filled.bundle), 0);
    for (size_t i = 0; i < COUNT(choices); i++) {
        static const UINT8 zeros[20];
        CHECK(wfpsa_store_switch(store, "keys", choices[i]));
        IPSEC_SA_CONTEXT1 *found = get1(engine, id);
        const IPSEC_SA_BUNDLE1 *bundle = &found->inboundSa->saBundle;
        const FWP_BYTE_BLOB *blobs[4] = {&bundle->saList[0].espAuthAndCipherInformation->saAuthInformation.authKey,
                                         &bundle->saList[0].espAuthAndCipherInformation->saCipherInformation.cipherKey,
                                         &bundle->saList[1].ahInformation->authKey,
                                         &bundle->keyModuleState->stateBlob};
        static const uint32_t sizes[4] = {20, 16, 20, 8};
        for (size_t j = 0; j < COUNT(blobs); j++) {
            CHECK_EQUAL(blobs[j]->size, i == 2 ? 0 : sizes[j]);
            CHECK_EQUAL(blobs[j]->data == NULL, i == 2);
            if (i < 2) {
                CHECK_BYTES(blobs[j]->data, i == 0 ? (const UINT8 *)WFPSA_KEY_MARK : zeros, sizes[j] < 16 ? 8 : 16);
            }
        }
        os->free_memory((void **)&found);
    }
    close_engine(engine);
    wfpsa_store_release(store);
}

/* ---- update ---- */

/* New values for both directions, different in each member that Update can change, and in some that it cannot. */
struct values {
    IPSEC_SA_CONTEXT1 context;
    IPSEC_SA_DETAILS1 details[2];
    IPSEC_V4_UDP_ENCAPSULATION0 encapsulation;
    IPSEC_KEYMODULE_STATE0 key_module;
    UINT8 state[4];
};

static void
values_fill(struct values *values, uint64_t id)
{
    memset(values, 0, sizeof *values);
    values->context.saContextId = id;
    values->encapsulation.localUdpEncapPort = 4500;
    values->encapsulation.remoteUdpEncapPort = 5500;
    values->key_module.keyModuleKey = some_key_module;
    values->key_module.stateBlob.size = 4;
    values->key_module.stateBlob.data = values->state;
    for (uint32_t i = 0; i < 2; i++) {
        IPSEC_SA_DETAILS1 *details = &values->details[i];
        details->traffic = traffic_to(0x100 + i);
        details->traffic.remotePort = (UINT16)(90 + i);
        details->traffic.ipsecFilterId = 0x50000 + i;
        details->udpEncapsulation = &values->encapsulation;
        details->saBundle.flags = IPSEC_SA_BUNDLE_FLAG_ND_BOUNDARY + i;
        details->saBundle.napContext = 50 + i;
        details->saBundle.keyModuleState = &values->key_module;
        details->saBundle.peerV4PrivateAddress = 0xC0A80200 + i;
        details->saBundle.mmSaId = 0x7700 + i;
        details->saBundle.qmSaId = 12345; /* this and what follows is not Update's to change */
        details->saBundle.pfsGroup = IPSEC_PFS_24;
        details->saBundle.qmFilterId = 99;
        details->saBundle.lifetime.lifetimeSeconds = 1;
        details->virtualIfTunnelInfo.virtualIfTunnelId = 5;
    }
    values->context.inboundSa = &values->details[0];
    values->context.outboundSa = &values->details[1];
}

static int
same_encapsulation(const IPSEC_V4_UDP_ENCAPSULATION0 *a, const IPSEC_V4_UDP_ENCAPSULATION0 *b)
{
    return a && b ? memcmp(a, b, sizeof *a) == 0 : a == b;
}

static int
same_key_module(const IPSEC_KEYMODULE_STATE0 *a, const IPSEC_KEYMODULE_STATE0 *b)
{
    return a && b ? memcmp(&a->keyModuleKey, &b->keyModuleKey, sizeof(GUID)) == 0 &&
                        a->stateBlob.size == b->stateBlob.size
                  : a == b;
}

/* Whether each selected member is the new one and each other the old. */
static int
updated_right(const IPSEC_SA_DETAILS1 *now, const IPSEC_SA_DETAILS1 *old, const IPSEC_SA_DETAILS1 *new, uint64_t flags)
{
#define FROM(flag) (flags & (flag) ? new : old)
    const IPSEC_SA_DETAILS1 *traffic = FROM(IPSEC_SA_DETAILS_UPDATE_TRAFFIC);
    return now->traffic.remoteV4Address == traffic->traffic.remoteV4Address &&
           now->traffic.remotePort == traffic->traffic.remotePort &&
           now->traffic.ipsecFilterId == traffic->traffic.ipsecFilterId &&
           same_encapsulation(now->udpEncapsulation,
                              FROM(IPSEC_SA_DETAILS_UPDATE_UDP_ENCAPSULATION)->udpEncapsulation) &&
           now->saBundle.flags == FROM(IPSEC_SA_BUNDLE_UPDATE_FLAGS)->saBundle.flags &&
           now->saBundle.napContext == FROM(IPSEC_SA_BUNDLE_UPDATE_NAP_CONTEXT)->saBundle.napContext &&
           same_key_module(now->saBundle.keyModuleState,
                           FROM(IPSEC_SA_BUNDLE_UPDATE_KEY_MODULE_STATE)->saBundle.keyModuleState) &&
           now->saBundle.peerV4PrivateAddress ==
               FROM(IPSEC_SA_BUNDLE_UPDATE_PEER_V4_PRIVATE_ADDRESS)->saBundle.peerV4PrivateAddress &&
           now->saBundle.mmSaId == FROM(IPSEC_SA_BUNDLE_UPDATE_MM_SA_ID)->saBundle.mmSaId &&
           now->saBundle.qmSaId == old->saBundle.qmSaId && now->saBundle.pfsGroup == old->saBundle.pfsGroup &&
           now->saBundle.qmFilterId == old->saBundle.qmFilterId && now->ipVersion == old->ipVersion &&
           now->saBundle.lifetime.lifetimeSeconds == old->saBundle.lifetime.lifetimeSeconds &&
           now->virtualIfTunnelInfo.virtualIfTunnelId == old->virtualIfTunnelInfo.virtualIfTunnelId;
#undef FROM
}

static void
an_update_changes_what_its_flags_select_in_the_directions_given(void)
{
    struct wfpsa_store *store = empty_store();
    HANDLE engine = open_engine(store);
    for (uint32_t directions = 0; directions <= 3; directions++) {
        for (uint32_t flag = 0; flag <= 8; flag++) { /* none, each alone, all */
            uint64_t flags = flag == 0 ? 0 : flag == 8 ? UPDATES_ALL : (uint64_t)1 << (flag - 1);
            for (int isolated = 0; isolated <= 1; isolated++) {
                IPSEC_TRAFFIC1 traffic = traffic_to(1);
                struct values values;
                uint64_t id = keyed(engine, &traffic, 0, 0);
                HANDLE handle = isolated ? begin(engine, NULL) : NULL;
                IPSEC_SA_CONTEXT1 *old = get1(engine, id);
                struct wfpsa_columns *before = everything(engine, 1);
                values_fill(&values, id);
                values.context.inboundSa = directions & 1 ? values.context.inboundSa : NULL;
                values.context.outboundSa = directions & 2 ? values.context.outboundSa : NULL;
                CHECK_EQUAL(os->sa_context_update(engine, flags, &values.context), 0);
                IPSEC_SA_CONTEXT1 *now = get1(engine, id);
                if (!CHECK(updated_right(now->inboundSa, old->inboundSa, &values.details[0],
                                         directions & 1 ? flags : 0)) ||
                    !CHECK(updated_right(now->outboundSa, old->outboundSa, &values.details[1],
                                         directions & 2 ? flags : 0))) {
                    fprintf(stderr, "directions %u, flags %u\n", (unsigned)directions, (unsigned)flags);
                }
                CHECK_EQUAL(shown_alike(engine, id), 3);
                if (isolated) {
                    struct wfpsa_columns *seen = rest_of(engine, handle, 1, 10);
                    CHECK(same_rows(before, seen)); /* an open enumeration does not see it */
                    wfpsa_columns_release(seen);
                    end(engine, handle);
                }
                os->free_memory((void **)&old);
                os->free_memory((void **)&now);
                wfpsa_columns_release(before);
                CHECK_EQUAL(os->sa_context_delete_by_id(engine, id), 0);
            }
        }
    }
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
an_update_takes_encapsulation_and_key_module_away(void)
{
    struct wfpsa_store *store = empty_store();
    HANDLE engine = open_engine(store);
    IPSEC_TRAFFIC1 traffic = traffic_to(1);
    struct values values;
    uint64_t id = keyed(engine, &traffic, 0, 0);
    values_fill(&values, id);
    CHECK_EQUAL(os->sa_context_update(engine, UPDATES_ALL, &values.context), 0);
    for (int i = 0; i < 2; i++) {
        values.details[i].udpEncapsulation = NULL;
        values.details[i].saBundle.keyModuleState = NULL;
    }
    CHECK_EQUAL(os->sa_context_update(engine, UPDATES_ALL, &values.context), 0);
    IPSEC_SA_CONTEXT1 *now = get1(engine, id);
    CHECK(!now->inboundSa->udpEncapsulation && !now->outboundSa->udpEncapsulation);
    CHECK(!now->inboundSa->saBundle.keyModuleState && !now->outboundSa->saBundle.keyModuleState);
    os->free_memory((void **)&now);
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
a_bundle_of_ipv6_gets_no_private_address_by_an_update(void)
{
    struct wfpsa_store *store = empty_store();
    HANDLE engine = open_engine(store);
    IPSEC_TRAFFIC1 traffic = traffic6_to(1);
    struct values values;
    struct bundle filled;
    uint64_t id = create(engine, &traffic);
    bundle_fill(&filled, get_spi(engine, id, &traffic), 1)->ipVersion = FWP_IP_VERSION_V6;
    CHECK_EQUAL(os->sa_context_add_inbound1(engine, id, &filled.bundle), 0);
    values_fill(&values, id);
    values.context.outboundSa = NULL;
    CHECK_EQUAL(
        os->sa_context_update(engine, UPDATES_ALL & ~(uint64_t)IPSEC_SA_DETAILS_UPDATE_TRAFFIC, &values.context), 0);
    IPSEC_SA_CONTEXT1 *now = get1(engine, id);
    CHECK_EQUAL(now->inboundSa->saBundle.peerV4PrivateAddress, 0);
    CHECK(now->inboundSa->udpEncapsulation == NULL);
    CHECK_EQUAL(now->inboundSa->saBundle.napContext, 50);
    os->free_memory((void **)&now);
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
an_update_that_is_refused_changes_nothing(void)
{
    struct wfpsa_store *store = empty_store();
    HANDLE engine = open_engine(store);
    IPSEC_TRAFFIC1 traffic = traffic_to(1);
    uint64_t id = keyed(engine, &traffic, 0, 0);
    struct wfpsa_columns *before = everything(engine, 1), *after;
    for (int i = 0; i < 6; i++) {
        struct values values;
        uint64_t flags = UPDATES_ALL;
        DWORD expected = BAD_ENUM;
        values_fill(&values, id);
        IPSEC_SA_DETAILS1 *last = &values.details[1]; /* the inbound's values are good, and not taken alone */
        switch (i) {
        case 0:
            last->traffic.ipVersion = FWP_IP_VERSION_NONE;
            break;
        case 1:
            last->traffic.trafficType = IPSEC_TRAFFIC_TYPE_MAX;
            break;
        case 2:
            values.key_module.stateBlob.data = NULL;
            expected = NULL_POINTER;
            break;
        case 3:
            values.key_module.stateBlob.size = 65537;
            expected = OUT_OF_BOUNDS;
            break;
        case 4:
            flags = 0x80;
            expected = (DWORD)FWP_E_INVALID_FLAGS;
            break;
        default:
            flags = (uint64_t)1 << 32;
            expected = (DWORD)FWP_E_INVALID_FLAGS;
            break;
        }
        CHECK_EQUAL(os->sa_context_update(engine, flags, &values.context), expected);
        after = everything(engine, 1);
        CHECK(same_rows(before, after));
        wfpsa_columns_release(after);
    }
    wfpsa_columns_release(before);
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
an_update_of_an_sa_that_is_not_there_is_refused(void)
{
    struct wfpsa_store *store = empty_store();
    HANDLE engine = open_engine(store);
    IPSEC_TRAFFIC1 traffic = traffic_to(1);
    struct values values;
    struct bundle filled;
    wfpsa_store_clock(store, 1);
    uint64_t id = create(engine, &traffic);
    values_fill(&values, id);
    CHECK_EQUAL(os->sa_context_update(engine, 0, &values.context), BAD_STATE);
    bundle_fill(&filled, get_spi(engine, id, &traffic), 1);
    CHECK_EQUAL(os->sa_context_update(engine, 0, &values.context), BAD_STATE);
    CHECK_EQUAL(os->sa_context_add_inbound1(engine, id, &filled.bundle), 0);
    CHECK_EQUAL(os->sa_context_update(engine, UPDATES_ALL, &values.context), BAD_STATE);
    values.context.outboundSa = NULL;
    CHECK_EQUAL(os->sa_context_update(engine, UPDATES_ALL, &values.context), 0);
    CHECK_EQUAL(os->sa_context_add_outbound1(engine, id, &filled.bundle), 0);
    CHECK_EQUAL(os->sa_context_expire(engine, id), 0);
    values_fill(&values, id);
    CHECK_EQUAL(os->sa_context_update(engine, UPDATES_ALL, &values.context), BAD_STATE);
    values.context.outboundSa = NULL;
    CHECK_EQUAL(os->sa_context_update(engine, UPDATES_ALL, &values.context), 0);
    CHECK_EQUAL(shown_alike(engine, id), 1);
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
an_update_of_no_direction_keeps_the_traffic_that_an_spi_was_had_for(void)
{
    struct wfpsa_store *store = empty_store();
    HANDLE engine = open_engine(store);
    IPSEC_TRAFFIC1 traffic = traffic_to(1), inbound = traffic;
    IPSEC_SA_CONTEXT1 nothing = {0, NULL, NULL};
    struct bundle filled;
    inbound.remotePort = 443;
    uint64_t id = create(engine, &traffic);
    uint32_t spi = get_spi(engine, id, &inbound);
    nothing.saContextId = id;
    CHECK_EQUAL(os->sa_context_update(engine, UPDATES_ALL, &nothing), 0);
    CHECK_EQUAL(get_spi(engine, id, &inbound), spi);
    bundle_fill(&filled, spi, 1);
    CHECK_EQUAL(os->sa_context_add_inbound1(engine, id, &filled.bundle), 0);
    IPSEC_SA_CONTEXT1 *found = get1(engine, id);
    CHECK_EQUAL(found->inboundSa->traffic.remotePort, 443);
    os->free_memory((void **)&found);
    close_engine(engine);
    wfpsa_store_release(store);
}

/* ---- duplicates ---- */

static void
a_new_outbound_sa_deletes_older_ones_for_its_traffic_unless_told_not_to(void)
{
    for (int kept = 0; kept <= 1; kept++) {
        for (int suppressed = 0; suppressed <= 1; suppressed++) {
            struct wfpsa_store *store = make_store(100, 0);
            HANDLE engine = open_engine(store);
            IPSEC_TRAFFIC1 traffic = traffic_to(1), other = traffic_to(2), port = traffic_to(1);
            struct bundle filled;
            port.remotePort = 80;
            CHECK(wfpsa_store_switch(store, "duplicates", "kept"));
            uint64_t old[3] = {keyed(engine, &traffic, 0, 0), keyed(engine, &traffic, 0, 0),
                               keyed(engine, &traffic, 0, 0)};
            uint64_t others[2] = {keyed(engine, &other, 0, 0), keyed(engine, &port, 0, 0)};
            CHECK_EQUAL(wfpsa_store_count(store), 105);
            CHECK(wfpsa_store_switch(store, "duplicates", kept ? "kept" : "deleted"));
            HANDLE handle = begin(engine, NULL);
            uint64_t id = create(engine, &traffic);
            bundle_fill(&filled, get_spi(engine, id, &traffic), 1);
            CHECK_EQUAL(os->sa_context_add_inbound1(engine, id, &filled.bundle), 0);
            for (size_t i = 0; i < COUNT(old); i++) {
                CHECK_EQUAL(sides_of(engine, old[i]), 3); /* an inbound SA deletes none */
            }
            filled.bundle.flags = suppressed ? IPSEC_SA_BUNDLE_FLAG_SUPPRESS_DUPLICATE_DELETION : 0;
            CHECK_EQUAL(os->sa_context_add_outbound1(engine, id, &filled.bundle), 0);
            for (size_t i = 0; i < COUNT(old); i++) {
                CHECK_EQUAL(sides_of(engine, old[i]), kept || suppressed ? 3 : -1);
            }
            CHECK_EQUAL(sides_of(engine, id), 3);
            CHECK_EQUAL(sides_of(engine, others[0]), 3);
            CHECK_EQUAL(sides_of(engine, others[1]), 3);
            CHECK_EQUAL(statistics_of(engine).successfulRekeys, kept || suppressed ? 0 : 3);
            struct wfpsa_columns *seen = rest_of(engine, handle, 1, 50);
            CHECK_EQUAL(seen->length, 105); /* as before */
            wfpsa_columns_release(seen);
            end(engine, handle);
            close_engine(engine);
            wfpsa_store_release(store);
        }
    }
}

static void
what_has_no_outbound_sa_any_more_is_no_duplicate(void)
{
    struct wfpsa_store *store = empty_store();
    HANDLE engine = open_engine(store);
    IPSEC_TRAFFIC1 traffic = traffic_to(1);
    wfpsa_store_clock(store, 1);
    uint64_t expired = keyed(engine, &traffic, 0, 0);
    CHECK_EQUAL(os->sa_context_expire(engine, expired), 0);
    uint64_t half_built = create(engine, &traffic);
    uint64_t id = keyed(engine, &traffic, 0, 0);
    CHECK_EQUAL(sides_of(engine, expired), 1);
    CHECK_EQUAL(sides_of(engine, half_built), 0);
    CHECK_EQUAL(sides_of(engine, id), 3);
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
a_changed_outbound_traffic_is_what_duplicates_are_found_by(void)
{
    struct wfpsa_store *store = empty_store();
    HANDLE engine = open_engine(store);
    IPSEC_TRAFFIC1 traffic = traffic_to(1), moved = traffic_to(0x101);
    struct values values;
    moved.remotePort = 91; /* what values_fill gives the outbound SA */
    uint64_t first = keyed(engine, &traffic, 0, 0);
    values_fill(&values, first);
    CHECK_EQUAL(os->sa_context_update(engine, IPSEC_SA_DETAILS_UPDATE_TRAFFIC, &values.context), 0);
    uint64_t second = keyed(engine, &traffic, 0, 0);
    CHECK_EQUAL(sides_of(engine, first), 3);
    uint64_t third = keyed(engine, &moved, 0, 0);
    CHECK_EQUAL(sides_of(engine, first), -1);
    CHECK_EQUAL(sides_of(engine, second), 3);
    CHECK_EQUAL(sides_of(engine, third), 3);
    close_engine(engine);
    wfpsa_store_release(store);
}

/* ---- adding as a test wants it ---- */

static void
a_context_is_added_as_given_and_its_id_once(void)
{
    struct wfpsa_store *store = empty_store();
    HANDLE engine = open_engine(store);
    static WCHAR name[] = u"Regel \u00FC";
    FWPM_FILTER0 filter;
    struct values values;
    struct bundle bundles[2];
    uint64_t id = 0, chosen = 0;
    memset(&filter, 0, sizeof filter);
    filter.filterId = 0x10010;
    filter.displayData.name = name;
    for (int directions = 0; directions <= 3; directions++) {
        values_fill(&values, directions == 3 ? 0x3000000000000000 : 0);
        for (int i = 0; i < 2; i++) {
            values.details[i].saBundle = *rich_bundle(&bundles[i], 0x500 + (uint32_t)i);
            values.details[i].transportFilter = &filter;
            values.details[i].virtualIfTunnelInfo.trafficSelectorId = 8;
        }
        values.context.inboundSa = directions & 1 ? values.context.inboundSa : NULL;
        values.context.outboundSa = directions & 2 ? values.context.outboundSa : NULL;
        CHECK_EQUAL(wfpsa_store_add(store, &values.context, &id), 0);
        CHECK(id != 0);
        CHECK_EQUAL(sides_of(engine, id), directions);
        IPSEC_SA_CONTEXT1 *found = get1(engine, id);
        const IPSEC_SA_DETAILS1 *both[2] = {found->inboundSa, found->outboundSa};
        for (int i = 0; i < 2; i++) {
            if (both[i]) {
                CHECK_EQUAL(both[i]->transportFilter->filterId, 0x10010);
                CHECK_BYTES(both[i]->transportFilter->displayData.name, name, sizeof name);
                CHECK_EQUAL(both[i]->traffic.remotePort, 90 + i);
                CHECK_EQUAL(both[i]->udpEncapsulation->remoteUdpEncapPort, 5500);
                CHECK_EQUAL(both[i]->virtualIfTunnelInfo.trafficSelectorId, 8);
                CHECK_EQUAL(both[i]->saBundle.saList[0].spi, 0x500 + i);
            }
        }
        os->free_memory((void **)&found);
    }
    CHECK_EQUAL(id, 0x3000000000000000);
    values.context.saContextId = id;
    CHECK_EQUAL(wfpsa_store_add(store, &values.context, &chosen), (DWORD)FWP_E_ALREADY_EXISTS);
    values.context.saContextId = UINT64_MAX;
    CHECK_EQUAL(wfpsa_store_add(store, &values.context, &chosen), 0);
    CHECK_EQUAL(chosen, UINT64_MAX);
    IPSEC_TRAFFIC1 traffic = traffic_to(3);
    CHECK_EQUAL(create(engine, &traffic), 0x3000000000000001); /* ids go on from the highest ordinary one */
    CHECK_EQUAL(wfpsa_store_count(store), 6);
    IPSEC_AGGREGATE_SA_STATISTICS0 statistics = statistics_of(engine);
    CHECK_EQUAL(statistics.activeSas, 6);
    CHECK_EQUAL(statistics.totalSasAdded, 6);
    CHECK_EQUAL(statistics.pendingSaNegotiations, 3); /* none, the inbound one alone, and the one just created */
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
a_context_that_cannot_be_is_not_added(void)
{
    struct wfpsa_store *store = empty_store();
    uint64_t id = 0;
    for (int direction = 0; direction <= 1; direction++) {
        for (int i = 0; i < 4; i++) {
            struct values values;
            struct bundle bundles[2];
            DWORD expected = BAD_ENUM;
            values_fill(&values, 0);
            values.details[0].saBundle = *rich_bundle(&bundles[0], 0x500);
            values.details[1].saBundle = *rich_bundle(&bundles[1], 0x600);
            if (i == 0) {
                values.details[direction].traffic.ipVersion = FWP_IP_VERSION_MAX;
            } else if (i == 1) {
                values.details[direction].saBundle.pfsGroup = IPSEC_PFS_MAX;
            } else if (i == 2) {
                values.details[direction].saBundle.numSAs = 0;
                expected = BAD_PARAMETER;
            } else {
                values.details[direction].saBundle.saList = NULL;
                expected = NULL_POINTER;
            }
            CHECK_EQUAL(wfpsa_store_add(store, &values.context, &id), expected);
            CHECK(id == 0 && wfpsa_store_count(store) == 0);
        }
    }
    wfpsa_store_release(store);
}

/* ---- statistics ---- */

static uint64_t
draw(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

/* A recount of what the statistics say is there. */
static void
recount(HANDLE engine, IPSEC_AGGREGATE_SA_STATISTICS0 *counted)
{
    struct wfpsa_columns *all = everything(engine, 1);
    memset(counted, 0, sizeof *counted);
    for (uint64_t row = 0; row < all->length; row++) {
        uint32_t sas = (uint32_t)U8(all, has_inbound, row) + U8(all, has_outbound, row);
        counted->activeSas += sas;
        counted->activeTunnels += sas && U8(all, traffic_type, row) == IPSEC_TRAFFIC_TYPE_TUNNEL;
    }
    wfpsa_columns_release(all);
}

/* What the test knows of a context it made: how far its keying is. */
struct known {
    uint64_t id;
    uint32_t spi;
    int stage;
    IPSEC_TRAFFIC1 traffic;
};

static void
statistics_agree_with_the_contents_after_anything(void)
{
    enum { KNOWN = 60, STEPS = 6000 };
    static struct known known[KNOWN];
    struct wfpsa_store *store = make_store(50, 0);
    HANDLE engine = open_engine(store), handles[3] = {NULL, NULL, NULL};
    uint64_t state = 42, changes = 0;
    wfpsa_store_clock(store, 1);
    memset(known, 0, sizeof known);
    for (int step = 0; step < STEPS; step++) {
        struct known *one = &known[draw(&state) % KNOWN];
        struct bundle filled;
        struct values values;
        DWORD code = 0;
        switch (draw(&state) % 12) {
        case 0:
        case 1:
        case 2:
        case 3:
        case 4: /* the next step of its keying, which fails where it has ended meanwhile */
            if (one->stage == 0) {
                one->traffic = draw(&state) % 4 ? traffic_to((uint32_t)(draw(&state) % 20))
                                                : traffic6_to((uint8_t)(draw(&state) % 20));
                one->traffic.trafficType = draw(&state) % 3 ? IPSEC_TRAFFIC_TYPE_TRANSPORT : IPSEC_TRAFFIC_TYPE_TUNNEL;
                one->id = create(engine, &one->traffic);
            } else if (one->stage == 1) {
                IPSEC_GETSPI1 wanted = spi_for(&one->traffic);
                wanted.inboundIpsecTraffic.realIfProfileId = (UINT32)(draw(&state) % 2);
                code = os->sa_context_get_spi1(engine, one->id, &wanted, &one->spi);
            } else {
                bundle_fill(&filled, one->spi, 1)->lifetime.lifetimeSeconds = (UINT32)(draw(&state) % 100);
                code = one->stage == 2 ? os->sa_context_add_inbound1(engine, one->id, &filled.bundle)
                                       : os->sa_context_add_outbound1(engine, one->id, &filled.bundle);
            }
            one->stage = code == 0 && one->stage < 3 ? one->stage + 1 : 0;
            break;
        case 5:
            code = os->sa_context_expire(engine, one->id);
            break;
        case 6:
            code = os->sa_context_delete_by_id(engine, one->id);
            one->stage = code == 0 ? 0 : one->stage;
            break;
        case 7:
            values_fill(&values, one->id);
            for (int i = 0; i < 2; i++) { /* a context whose directions differ in this counts as the outbound's */
                values.details[i].traffic.trafficType = one->traffic.trafficType;
                values.details[i].traffic.remotePort = 0;
            }
            values.context.inboundSa = draw(&state) % 2 ? values.context.inboundSa : NULL;
            values.context.outboundSa = draw(&state) % 2 ? values.context.outboundSa : NULL;
            code = os->sa_context_update(engine, draw(&state) % 128, &values.context);
            break;
        case 8:
            wfpsa_store_advance(store, draw(&state) % 8000);
            break;
        case 9: {
            HANDLE *handle = &handles[draw(&state) % COUNT(handles)];
            if (*handle) {
                end(engine, *handle);
                *handle = NULL;
            } else {
                *handle = begin(engine, NULL);
            }
            break;
        }
        case 10: {
            static const char *const choices[] = {"off", "on"};
            CHECK(wfpsa_store_switch(store, "lifetimes", choices[draw(&state) % 4 > 0]));
            CHECK(wfpsa_store_switch(store, "idle", choices[draw(&state) % 2]));
            break;
        }
        default:
            if (step % 50 == 0) {
                CHECK(wfpsa_store_seed(store, draw(&state) % 20, draw(&state), 1));
            }
            break;
        }
        CHECK(code == 0 || code == NOT_FOUND || code == BAD_STATE || code == BAD_PARAMETER ||
              code == (DWORD)FWP_E_TRAFFIC_MISMATCH);
        changes += code == 0;
        if (step % 20 == 0) {
            IPSEC_AGGREGATE_SA_STATISTICS0 said = statistics_of(engine), counted;
            recount(engine, &counted);
            CHECK_EQUAL(said.activeSas, counted.activeSas);
            CHECK_EQUAL(said.activeTunnels, counted.activeTunnels);
            CHECK_EQUAL(said.totalSasAdded - said.totalSasDeleted, said.activeSas);
            CHECK(said.pendingSaNegotiations <= wfpsa_store_count(store));
        }
    }
    CHECK(changes > STEPS / 2);
    CHECK(statistics_of(engine).successfulRekeys > 20);
    struct wfpsa_columns *all = everything(engine, 0);
    for (uint64_t row = 0; row < all->length; row++) {
        CHECK_EQUAL(os->sa_context_delete_by_id(engine, U64(all, context_id, row)), 0);
    }
    wfpsa_columns_release(all);
    IPSEC_AGGREGATE_SA_STATISTICS0 said = statistics_of(engine);
    CHECK(said.activeSas == 0 && said.activeTunnels == 0 && said.pendingSaNegotiations == 0);
    CHECK_EQUAL(said.totalSasAdded, said.totalSasDeleted);
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
statistics_say_zero_of_what_nothing_here_counts(void)
{
    struct wfpsa_store *store = make_store(50, 0);
    HANDLE engine = open_engine(store);
    IPSEC_STATISTICS1 statistics, expected;
    memset(&statistics, 0xFF, sizeof statistics);
    memset(&expected, 0, sizeof expected);
    CHECK_EQUAL(os->get_statistics1(engine, &statistics), 0);
    expected.aggregateSaStatistics = statistics.aggregateSaStatistics;
    CHECK_BYTES(&statistics, &expected, sizeof statistics);
    CHECK_EQUAL(statistics.aggregateSaStatistics.offloadedSas, 0);
    close_engine(engine);
    wfpsa_store_release(store);
}

/* ---- the library's own structures ---- */

static void
the_librarys_calls_key_a_context_as_the_os_does(void)
{
    static const uint8_t key[20] = {1, 2, 3};
    struct wfpsa_store *store = empty_store();
    struct wfpsa_session *session;
    struct wfpsa_failure failure = {0, ""};
    struct wfpsa_details details;
    uint64_t id = 0;
    uint32_t spi = 0;
    memset(&details, 0, sizeof details);
    details.traffic.ip_version = 4;
    memcpy(details.traffic.local_address, "\0\0\0\0\0\0\0\0\0\0\xFF\xFF\x0A\0\0\1", 16);
    memcpy(details.traffic.remote_address, "\0\0\0\0\0\0\0\0\0\0\xFF\xFF\x0A\0\0\2", 16);
    details.traffic.udp_local_port = 4500;
    details.traffic.udp_remote_port = 4501;
    details.traffic.virtual_tunnel_id = 6;
    details.bundle.ip_version = 4;
    details.bundle.sa_count = 1;
    details.bundle.sas[0].transform = IPSEC_TRANSFORM_ESP_AUTH;
    details.bundle.sas[0].auth_type = IPSEC_AUTH_SHA_1;
    details.bundle.sas[0].auth_config = IPSEC_AUTH_CONFIG_HMAC_SHA_1_96;
    details.bundle.sas[0].auth_key = key;
    details.bundle.sas[0].auth_key_bytes = sizeof key;
    details.bundle.main_mode_target = u"peer";
    CHECK_EQUAL(wfpsa_session_open(os, wfpsa_store_name(store), 0, &session, &failure), WFPSA_OK);
    CHECK_EQUAL(wfpsa_session_create(session, &details.traffic, &id, &failure), WFPSA_OK);
    CHECK_EQUAL(wfpsa_session_add(session, id, WFPSA_INBOUND, &details.bundle, &failure), WFPSA_CALL_FAILED);
    CHECK_EQUAL(failure.code, BAD_STATE);
    CHECK_TEXT(failure.function, "IPsecSaContextAddInbound1");
    CHECK_EQUAL(wfpsa_session_spi(session, id, &details.traffic, &spi, &failure), WFPSA_OK);
    CHECK(spi != 0);
    spi = 0x4444;
    CHECK_EQUAL(wfpsa_session_spi(session, id, &details.traffic, &spi, &failure), WFPSA_OK);
    details.bundle.sas[0].spi = 0x4444;
    CHECK_EQUAL(wfpsa_session_add(session, id, WFPSA_INBOUND, &details.bundle, &failure), WFPSA_OK);
    CHECK_EQUAL(wfpsa_session_add(session, id, WFPSA_OUTBOUND, &details.bundle, &failure), WFPSA_OK);
    details.bundle.nap_context = 77;
    CHECK_EQUAL(wfpsa_session_update(session, id, IPSEC_SA_BUNDLE_UPDATE_NAP_CONTEXT, NULL, &details, &failure),
                WFPSA_OK);
    struct wfpsa_columns *all = snapshot_all(session, 1);
    CHECK_EQUAL(all->length, 1);
    CHECK_EQUAL(U32(all, spi_in, 0), 0x4444);
    CHECK_EQUAL(U32(all, spi_out, 0), 0x4444);
    CHECK_EQUAL(U16(all, udp_remote_port_in, 0), 4501);
    CHECK_BYTES(BYTES16(all, remote_address, 0), details.traffic.remote_address, 16);
    CHECK(name_is(all, U32(all, main_mode_target_out, 0), "peer", 4));
    wfpsa_columns_release(all);
    uint64_t added = 0;
    CHECK_EQUAL(wfpsa_keying_store(wfpsa_store_add, store, &added, &details, NULL), 0);
    CHECK(added == id + 1 && wfpsa_store_count(store) == 2);
    struct wfpsa_statistics statistics;
    CHECK_EQUAL(wfpsa_session_statistics(session, &statistics, &failure), WFPSA_OK);
    CHECK_EQUAL(statistics.active_sas, 3);
    CHECK_EQUAL(statistics.total_sas_added, 3);
    CHECK_EQUAL(wfpsa_session_close(session, &failure), WFPSA_OK);
    wfpsa_session_free(session);
    wfpsa_store_release(store);
}

int
main(void)
{
    RUN(each_step_is_refused_out_of_order_and_changes_nothing);
    RUN(an_expired_context_that_had_no_outbound_sa_gets_none);
    RUN(half_built_contexts_end_at_once_with_their_expiry);
    RUN(an_unknown_id_is_not_found_by_any_call);
    RUN(a_null_pointer_is_refused_wherever_something_is_needed);
    RUN(a_dynamic_session_creates_nothing_but_goes_on_with_what_there_is);
    RUN(each_profile_may_key_as_the_default_access_list_grants);
    RUN(bad_traffic_is_refused_at_creation);
    RUN(the_spi_is_for_traffic_between_the_same_ends);
    RUN(an_spi_can_be_had_again_for_the_same_traffic_and_no_other);
    RUN(spis_of_the_engines_choice_differ);
    RUN(bad_bundles_are_refused_by_the_code_made_for_each_and_add_nothing);
    RUN(every_transform_is_shown_as_it_was_given);
    RUN(all_of_a_bundle_is_shown_by_both_versions);
    RUN(encapsulation_of_ipv4_is_shown_in_both_directions_and_ipv6_has_none);
    RUN(tunnel_ids_of_the_creation_are_shown_in_both_directions);
    RUN(key_blobs_of_results_hold_what_the_switch_says);
    RUN(an_update_changes_what_its_flags_select_in_the_directions_given);
    RUN(an_update_takes_encapsulation_and_key_module_away);
    RUN(a_bundle_of_ipv6_gets_no_private_address_by_an_update);
    RUN(an_update_that_is_refused_changes_nothing);
    RUN(an_update_of_an_sa_that_is_not_there_is_refused);
    RUN(an_update_of_no_direction_keeps_the_traffic_that_an_spi_was_had_for);
    RUN(a_new_outbound_sa_deletes_older_ones_for_its_traffic_unless_told_not_to);
    RUN(what_has_no_outbound_sa_any_more_is_no_duplicate);
    RUN(a_changed_outbound_traffic_is_what_duplicates_are_found_by);
    RUN(a_context_is_added_as_given_and_its_id_once);
    RUN(a_context_that_cannot_be_is_not_added);
    RUN(statistics_agree_with_the_contents_after_anything);
    RUN(statistics_say_zero_of_what_nothing_here_counts);
    RUN(the_librarys_calls_key_a_context_as_the_os_does);
    return closing_line();
}
