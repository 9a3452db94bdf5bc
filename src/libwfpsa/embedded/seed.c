/* Deterministic, plausible populations: what a busy gateway's SA database might hold, and what no sane engine would.
 */
#include "internal.h"

#include <string.h>

/* ---- the shapes of a population ---- */

#define SUITES 11
#define LIFETIMES 3
#define POLICIES (SUITES * LIFETIMES * 2) /* for IPv4 and IPv6 */
#define FILTERS 32
#define IDENTITIES_MAX 4096
#define ODD_POLICIES 16
#define ODD_IDENTITIES 4
#define RARITIES_MAX                                                                                                  \
    512 /* with a lookup context; a third of them with tunnel ids beside it, and a third with these alone */

/* Shapes that are held; a failed making leaves NULLs. */
struct population {
    struct shape *policies[POLICIES];
    struct shape *odd_policies[ODD_POLICIES];
    struct shape *filters[FILTERS];
    struct shape *identities[IDENTITIES_MAX];
    struct shape *odd_identities[ODD_IDENTITIES];
    struct shape *rarities[RARITIES_MAX][3]; /* lookup context, both, tunnel ids */
    UINT32 identities_count, rarities_count;
    enum wfpsa_population kind;
};

#define ESP_BOTH IPSEC_TRANSFORM_ESP_AUTH_AND_CIPHER

/* transform, auth type, cipher type, auth config, cipher config, bytes of the auth and the cipher key */
static const struct sa_shape suites[SUITES] = {
    {ESP_BOTH,
     IPSEC_AUTH_SHA_1,
     IPSEC_CIPHER_TYPE_AES_128,
     IPSEC_AUTH_CONFIG_HMAC_SHA_1_96,
     IPSEC_CIPHER_CONFIG_CBC_AES_128,
     20,
     16,
     0,
     {0}},
    {ESP_BOTH,
     IPSEC_AUTH_SHA_256,
     IPSEC_CIPHER_TYPE_AES_256,
     IPSEC_AUTH_CONFIG_HMAC_SHA_256_128,
     IPSEC_CIPHER_CONFIG_CBC_AES_256,
     32,
     32,
     0,
     {0}},
    {ESP_BOTH,
     IPSEC_AUTH_AES_128,
     IPSEC_CIPHER_TYPE_AES_128,
     IPSEC_AUTH_CONFIG_GCM_AES_128,
     IPSEC_CIPHER_CONFIG_GCM_AES_128,
     20,
     20,
     0,
     {0}},
    {ESP_BOTH,
     IPSEC_AUTH_AES_256,
     IPSEC_CIPHER_TYPE_AES_256,
     IPSEC_AUTH_CONFIG_GCM_AES_256,
     IPSEC_CIPHER_CONFIG_GCM_AES_256,
     36,
     36,
     0,
     {0}},
    {IPSEC_TRANSFORM_ESP_AUTH, IPSEC_AUTH_SHA_256, 0, IPSEC_AUTH_CONFIG_HMAC_SHA_256_128, 0, 32, 0, 0, {0}},
    {ESP_BOTH,
     IPSEC_AUTH_SHA_1,
     IPSEC_CIPHER_TYPE_3DES,
     IPSEC_AUTH_CONFIG_HMAC_SHA_1_96,
     IPSEC_CIPHER_CONFIG_CBC_3DES,
     20,
     24,
     0,
     {0}},
    {IPSEC_TRANSFORM_AH, IPSEC_AUTH_SHA_1, 0, IPSEC_AUTH_CONFIG_HMAC_SHA_1_96, 0, 20, 0, 0, {0}},
    {ESP_BOTH,
     IPSEC_AUTH_SHA_1,
     IPSEC_CIPHER_TYPE_AES_128,
     IPSEC_AUTH_CONFIG_HMAC_SHA_1_96,
     IPSEC_CIPHER_CONFIG_CBC_AES_128,
     20,
     16,
     0,
     {0}}, /* with AH beside it */
    {IPSEC_TRANSFORM_ESP_AUTH_FW, IPSEC_AUTH_SHA_1, 0, IPSEC_AUTH_CONFIG_HMAC_SHA_1_96, 0, 20, 0, 0, {0}},
    {IPSEC_TRANSFORM_ESP_CIPHER, 0, IPSEC_CIPHER_TYPE_AES_192, 0, IPSEC_CIPHER_CONFIG_CBC_AES_192, 0, 24, 0, {0}},
    {ESP_BOTH,
     IPSEC_AUTH_AES_192,
     IPSEC_CIPHER_TYPE_AES_192,
     IPSEC_AUTH_CONFIG_GCM_AES_192,
     IPSEC_CIPHER_CONFIG_GCM_AES_192,
     28,
     28,
     0,
     {0}},
};

#define SUITE_ESP_AND_AH 7
static const struct sa_shape ah_beside = {
    IPSEC_TRANSFORM_AH, IPSEC_AUTH_SHA_256, 0, IPSEC_AUTH_CONFIG_HMAC_SHA_256_128, 0, 32, 0, 0, {0}};

/* Seconds, kilobytes. */
static const UINT32 lifetimes[LIFETIMES][2] = {{3600, 100000}, {28800, 0}, {900, 250000}};

/* Made up but for being distinct: IKE, AuthIP, IKEv2. */
static const GUID key_modules[3] = {
    {0xA9BBF787, 0x82A8, 0x45BB, {0xA4, 0x00, 0x5D, 0x7E, 0x59, 0x52, 0xC7, 0xA9}},
    {0x11E3DAE0, 0xDD26, 0x4590, {0x85, 0x7D, 0xAB, 0x4B, 0x28, 0xD1, 0xA0, 0x95}},
    {0x041792CC, 0x8F07, 0x419D, {0xA3, 0x94, 0x71, 0x69, 0x68, 0xCB, 0x16, 0x47}},
};

static void
fill_policy(struct policy *policy, UINT32 suite, UINT32 lifetime, UINT32 ip_version)
{
    UINT32 variety = suite + lifetime;
    memset(policy, 0, sizeof *policy);
    policy->flags = IPSEC_SA_BUNDLE_FLAG_ND_SECURE | (variety % 2 ? IPSEC_SA_BUNDLE_FLAG_GUARANTEE_ENCRYPTION : 0u);
    policy->lifetime_seconds = lifetimes[lifetime][0];
    policy->lifetime_kilobytes = lifetimes[lifetime][1];
    policy->lifetime_packets = variety % 4 == 0 ? 0 : 0x7FFFFFFF;
    policy->idle_timeout_seconds = variety % 3 == 0 ? 0 : 300;
    policy->nd_allow_clear_timeout_seconds = variety % 5;
    policy->pfs_group = variety % IPSEC_PFS_MAX;
    policy->bundle_ip_version = ip_version;
    policy->num_sas = suite == SUITE_ESP_AND_AH ? 2 : 1;
    policy->listed = policy->num_sas;
    policy->sas[0] = suites[suite];
    if (suite == SUITE_ESP_AND_AH) {
        policy->sas[1] = ah_beside;
    }
    if (variety % 4 != 3) {
        policy->has_key_module = 1;
        policy->key_module = key_modules[variety % 3];
        policy->key_module_state = variety % 2 ? 24 : 0;
    }
}

/* Two SAs, a key module with a state. */
static void
fill_full_policy(struct policy *policy, UINT32 suite, UINT32 lifetime, UINT32 ip_version)
{
    fill_policy(policy, suite, lifetime, ip_version);
    if (policy->sas[0].transform == IPSEC_TRANSFORM_AH) {
        policy->sas[0] = suites[SUITE_ESP_AND_AH];
    }
    policy->num_sas = policy->listed = 2;
    policy->sas[1] = ah_beside;
    policy->has_key_module = 1;
    policy->key_module = key_modules[(suite + lifetime) % 3];
    policy->key_module_state = 24;
}

/* What a newer, broken or hostile engine might report. */
static void
fill_odd_policy(struct policy *policy, UINT32 which)
{
    static const UINT32 values[5] = {253, 254, 255, 256, UINT32_MAX};
    UINT32 value = values[which % 5];
    fill_policy(policy, which % SUITES, which % LIFETIMES, which % 4 == 3 ? FWP_IP_VERSION_NONE : FWP_IP_VERSION_V4);
    policy->pfs_group = value;
    switch (which % 8) {
    case 0:
        policy->sas[0].transform = value;
        break;
    case 1:
        policy->sas[0] = suites[1];
        policy->sas[0].auth_type = value;
        policy->sas[0].cipher_type = value;
        break;
    case 2:
        policy->sas[0] = suites[1];
        policy->sas[0].auth_config = (UINT8)value;
        policy->sas[0].cipher_config = (UINT8)value;
        break;
    case 3:
        policy->listed = 0; /* saList is NULL, whatever numSAs says */
        break;
    case 4:
        policy->listed = 2;
        policy->num_sas = UINT32_MAX - which;
        policy->sas[1] = ah_beside;
        policy->sas[1].auth_type = value;
        break;
    case 5:
        policy->sas[0].no_information = 1;
        break;
    case 6:
        policy->num_sas = 0;
        policy->listed = 0;
        break;
    default:
        policy->sas[0].auth_key = 0; /* an empty blob: data is NULL */
        policy->sas[0].cipher_key = 0;
        break;
    }
}

/* ---- names ---- */

static WCHAR *
put_text(WCHAR *at, const WCHAR *text)
{
    while (*text) {
        *at++ = *text++;
    }
    return at;
}

static WCHAR *
put_number(WCHAR *at, UINT32 number)
{
    for (UINT32 unit = 10000; unit; unit /= 10) {
        *at++ = (WCHAR)('0' + number / unit % 10);
    }
    return at;
}

static struct shape *
make_identity(struct wfpsa_store *store, UINT32 number, int full)
{
    static const WCHAR *const starts[6] = {u"host/pc-", u"host/srv-",        u"CN=Zo\u00EB M\u00FCller ",
                                           u"gateway-", u"CN=\u6771\u4EAC-", u"\U0001F512 \u00C4rzte-VPN "};
    static const WCHAR *const ends[6] = {u".corp.example", u".dc.corp.example", u", O=Beispiel GmbH",
                                         u".example.net",  u", O=\u682A\u5F0F", u""};
    WCHAR main_mode[64], extended_mode[64], *at;
    UINT32 kind = number % 6;
    at = put_text(main_mode, starts[kind]);
    at = put_text(put_number(at, number), ends[kind]);
    *at = 0;
    at = put_text(put_number(put_text(extended_mode, u"CORP\\user"), number), u"");
    *at = 0;
    return shape_of_identity(store, main_mode, full || number % 3 == 0 ? extended_mode : NULL);
}

static struct shape *
make_odd_identity(struct wfpsa_store *store, UINT32 which)
{
    static const WCHAR lone[] = {'l', 'o', 'n', 'e', 0xD83D, '-', 0xDE00, 0xDBFF, 0};
    switch (which) {
    case 0:
        return shape_of_identity(store, NULL, NULL);
    case 1:
        return shape_of_identity(store, u"", NULL);
    case 2:
        return shape_of_identity(store, lone, u"");
    default:
        return shape_of_identity(store, NULL, u"only the extended mode");
    }
}

static struct shape *
make_rarity(struct wfpsa_store *store, UINT32 number, UINT32 kind)
{
    UINT64 state = number;
    struct rarity rarity;
    memset(&rarity, 0, sizeof rarity);
    if (kind <= 1) {
        UINT64 r = next_random(&state);
        rarity.lookup_context.Data1 = (UINT32)(r >> 32) | 1;
        rarity.lookup_context.Data2 = (UINT16)(r >> 16);
        rarity.lookup_context.Data4[7] = (UINT8)r;
    }
    if (kind >= 1) {
        rarity.virtual_tunnel_id = number + 1;
        rarity.traffic_selector_id = number % 4 + 1;
    }
    return shape_of_rarity(store, &rarity);
}

/* Drops the shapes and the population itself. */
static void
population_free(struct wfpsa_store *store, struct population *population)
{
    for (UINT32 i = 0; i < POLICIES; i++) {
        shape_drop(store, population->policies[i]);
    }
    for (UINT32 i = 0; i < ODD_POLICIES; i++) {
        shape_drop(store, population->odd_policies[i]);
    }
    for (UINT32 i = 0; i < FILTERS; i++) {
        shape_drop(store, population->filters[i]);
    }
    for (UINT32 i = 0; i < IDENTITIES_MAX; i++) {
        shape_drop(store, population->identities[i]);
    }
    for (UINT32 i = 0; i < ODD_IDENTITIES; i++) {
        shape_drop(store, population->odd_identities[i]);
    }
    for (UINT32 i = 0; i < RARITIES_MAX; i++) {
        for (UINT32 kind = 0; kind < 3; kind++) {
            shape_drop(store, population->rarities[i][kind]);
        }
    }
    wfpsa_free(population);
}

static int
make_shapes(struct wfpsa_store *store, struct population *population, UINT64 count)
{
    int odd = population->kind == WFPSA_ODD;
    struct policy policy;
    for (UINT32 i = 0; i < POLICIES; i++) {
        (population->kind == WFPSA_FULL ? fill_full_policy : fill_policy)(
            &policy, i / 2 % SUITES, i / 2 / SUITES, i % 2 ? FWP_IP_VERSION_V6 : FWP_IP_VERSION_V4);
        if (!(population->policies[i] = shape_of_policy(store, &policy))) {
            return 0;
        }
    }
    for (UINT32 i = 0; i < FILTERS; i++) {
        WCHAR name[32], *at = put_number(put_text(name, u"Transport rule "), i);
        *at = 0;
        if (!(population->filters[i] = shape_of_filter(store, 0x10000 + i, name, i % 3))) {
            return 0;
        }
    }
    population->identities_count = (UINT32)(count / 4 + 1 < IDENTITIES_MAX ? count / 4 + 1 : IDENTITIES_MAX);
    for (UINT32 i = 0; i < population->identities_count; i++) {
        if (!(population->identities[i] = make_identity(store, i, population->kind == WFPSA_FULL))) {
            return 0;
        }
    }
    population->rarities_count = (UINT32)(count / 8 + 1 < RARITIES_MAX ? count / 8 + 1 : RARITIES_MAX);
    for (UINT32 i = 0; i < population->rarities_count; i++) {
        for (UINT32 kind = 0; kind < 3; kind++) {
            if (!(population->rarities[i][kind] = make_rarity(store, i, kind))) {
                return 0;
            }
        }
    }
    for (UINT32 i = 0; odd && i < ODD_POLICIES; i++) {
        fill_odd_policy(&policy, i);
        if (!(population->odd_policies[i] = shape_of_policy(store, &policy))) {
            return 0;
        }
    }
    for (UINT32 i = 0; odd && i < ODD_IDENTITIES; i++) {
        if (!(population->odd_identities[i] = make_odd_identity(store, i))) {
            return 0;
        }
    }
    return 1;
}

/* For about that many contexts; NULL without memory. */
static struct population *
population_new(struct wfpsa_store *store, UINT64 count, enum wfpsa_population kind)
{
    struct population *population = wfpsa_allocate_zeroed(1, sizeof *population);
    if (!population) {
        return NULL;
    }
    population->kind = kind;
    if (!make_shapes(store, population, count)) {
        population_free(store, population);
        return NULL;
    }
    return population;
}

/* ---- contexts ---- */

/* Of ten peers five are in 10.0.0.0/8 (a third of those in 10.2.0.0/16), two each in the other private ranges. */
static UINT32
peer_v4(UINT64 r)
{
    UINT32 low = (UINT32)(r >> 32);
    switch (r % 10) {
    case 0:
        return 0xCB007100u | (low & 0xFF); /* 203.0.113.0/24 */
    case 1:
    case 2:
        return 0xAC100000u | (low & 0xFFFFF); /* 172.16.0.0/12 */
    case 3:
    case 4:
        return 0xC0A80000u | (low & 0xFFFF); /* 192.168.0.0/16 */
    case 5:
    case 6:
        return 0x0A020000u | (low & 0xFFFF);
    default:
        return 0x0A000000u | (low & 0xFFFFFF);
    }
}

static void
peer_v6(UINT8 *address, UINT64 r)
{
    memset(address, 0, 16);
    if (r % 3 == 0) {
        address[0] = 0xFD; /* unique local */
        address[1] = 0x12;
    } else {
        memcpy(address, "\x20\x01\x0D\xB8", 4); /* documentation */
    }
    for (UINT32 i = 0; i < 8; i++) {
        address[i < 2 ? 4 + i : 8 + i] = (UINT8)(r >> 8 * i);
    }
}

static void
fill_half(struct half *half, const struct population *population, UINT64 r, UINT32 v6, int tunnel)
{
    memset(half, 0, sizeof *half);
    half->ip_version = v6 ? FWP_IP_VERSION_V6 : FWP_IP_VERSION_V4;
    half->policy = population->policies[(r % (POLICIES / 2)) * 2 + v6];
    int full = population->kind == WFPSA_FULL;
    half->identity = full || r >> 8 & 3 ? population->identities[(r >> 10) % population->identities_count] : NULL;
    half->filter = !full && (tunnel || (r >> 7 & 7) == 0) ? NULL : population->filters[(r >> 24) % FILTERS];
    half->filter_id = tunnel ? 0x30000 + (r >> 24) % 16 : 0x20000 + (r >> 24) % FILTERS;
    half->qm_filter_id = half->filter_id + 0x100000;
    half->mm_sa_id = (r >> 10) % 100000 + 1;
    half->qm_sa_id = (UINT32)(r >> 20) | 1;
    half->nap_context = (UINT32)(r >> 40 & 0xF);
    int has_ids = full || (tunnel && (r >> 30) % 3 == 0), has_lookup = full || (r >> 45) % 4 == 0;
    if (has_ids || has_lookup) {
        half->rarity =
            population->rarities[(r >> 33) % population->rarities_count][has_ids ? (has_lookup ? 1 : 2) : 0];
    }
}

static void
make_odd(struct record *record, const struct population *population, UINT64 r)
{
    static const UINT32 versions[4] = {FWP_IP_VERSION_NONE, FWP_IP_VERSION_MAX, 255, UINT32_MAX};
    static const UINT32 types[5] = {253, 254, 255, 256, UINT32_MAX};
    struct half *half = record->out.policy ? &record->out : &record->in;
    switch (r % 4) {
    case 0:
        record->traffic.ip_version = versions[r / 4 % 4];
        half->ip_version = versions[r / 16 % 4];
        break;
    case 1:
        record->traffic.type = types[r / 4 % 5];
        record->id |= (UINT64)1 << 63;
        break;
    case 2:
        half->identity = population->odd_identities[r / 4 % ODD_IDENTITIES];
        break;
    default:
        break;
    }
    if (half->policy) {
        half->policy = population->odd_policies[r / 64 % ODD_POLICIES];
    }
}

/* Does not hold its shapes. */
static void
make_record(struct record *record, struct traffic *inbound, const struct population *population, UINT64 *state)
{
    UINT64 r = next_random(state), s = next_random(state), t = next_random(state);
    UINT32 v6 = r % 5 == 0;
    int tunnel = (r >> 8 & 3) == 0;
    int full = population->kind == WFPSA_FULL;
    UINT32 side = full ? 400 : (UINT32)(r >> 16) % 400; /* 0: half-built, 1 to 12: inbound only, 13 to 16: outbound */

    struct traffic *traffic = &record->traffic;
    memset(traffic, 0, sizeof *traffic);
    traffic->ip_version = v6 ? FWP_IP_VERSION_V6 : FWP_IP_VERSION_V4;
    traffic->type = tunnel ? IPSEC_TRAFFIC_TYPE_TUNNEL : IPSEC_TRAFFIC_TYPE_TRANSPORT;
    if (v6) {
        memcpy(traffic->local, "\x20\x01\x0D\xB8\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00", 16);
        traffic->local[15] = (UINT8)(1 + (r >> 40) % 8);
        peer_v6(traffic->remote, s);
    } else {
        UINT32 local = 0x0A000001u + (UINT32)((r >> 40) % 8), remote = peer_v4(s);
        memcpy(traffic->local, &local, sizeof local);
        memcpy(traffic->remote, &remote, sizeof remote);
    }
    if (!tunnel && (r >> 44 & 1)) {
        static const UINT16 ports[4] = {445, 3389, 443, 1433};
        traffic->local_port = ports[r >> 45 & 3];
        traffic->remote_port = (r >> 47 & 1) ? 0 : (UINT16)(49152 + (s >> 20) % 16384);
        traffic->ip_protocol = (r >> 48 & 7) ? 6 : 17;
    }
    traffic->local_interface_luid = 0x0006000000000000u | ((r >> 40) % 8) << 24;
    traffic->real_profile_id = (UINT32)(r >> 50 & 3);

    fill_half(&record->out, population, t, v6, tunnel);
    record->out.spi = (UINT32)next_random(state) | 0x100;
    record->out.ah_spi = (UINT32)(s >> 32) | 0x100;
    if (!v6 && (full || (r >> 52) % 7 == 0)) {
        record->out.udp_local_port = 4500;
        record->out.udp_remote_port = (UINT16)(1024 + (s >> 12) % 60000);
        record->out.peer_private_address = 0xC0A80000u | (UINT32)(s >> 24 & 0xFFFF);
    }
    record->in = record->out;
    record->in.spi = (UINT32)next_random(state) | 0x100;
    record->in.ah_spi = (UINT32)s | 0x100;
    if (side == 0 || (side >= 13 && side <= 16)) {
        memset(&record->in, 0, sizeof record->in);
    }
    if (side <= 12) {
        memset(&record->out, 0, sizeof record->out);
    }
    record->inbound_traffic = NULL;
    if (side > 16 && (t >> 50) % 128 == 0) {
        *inbound = *traffic;
        inbound->remote_port ^= 1;
        inbound->remote[t >> 60 & 3] ^= (UINT8)(t >> 57 & 1);
        record->inbound_traffic = inbound;
    }
    if (population->kind == WFPSA_ODD && (t >> 40) % 8 == 0) {
        make_odd(record, population, next_random(state));
    }
    record->stage = record->out.policy ? STAGE_COMPLETE : record->in.policy ? STAGE_INBOUND : STAGE_CREATED;
}

static struct record *
add_random(struct wfpsa_store *store, const struct population *population, UINT64 *state)
{
    struct record record;
    struct traffic inbound;
    memset(&record, 0, sizeof record);
    record.id = store->next_id;
    make_record(&record, &inbound, population, state);
    struct record *added = store_add(store, &record);
    store->next_id += added ? 1 : 0;
    return added;
}

/* The context that a seeding gave this number, an odd one's id being its own. */
static struct record *
seeded(struct wfpsa_store *store, UINT64 number)
{
    struct record *record = store_lookup(store, number);
    return record ? record : store_lookup(store, number | (UINT64)1 << 63);
}

int
wfpsa_store_seed(struct wfpsa_store *store, uint64_t count, uint64_t seed, enum wfpsa_population kind)
{
    UINT64 state = seed ^ count * 0xD1342543DE82EF95u;
    wfpsa_mutex_lock(&store->lock);
    store_settle(store);
    UINT64 first = store->next_id;
    struct population *population = store_reserve(store, count) ? population_new(store, count, kind) : NULL;
    int complete = population != NULL;
    for (UINT64 i = 0; complete && i < count; i++) {
        complete = add_random(store, population, &state) != NULL;
    }
    for (UINT64 number = first; complete && store->subscriptions && number < store->next_id; number++) {
        tell_added(store, seeded(store, number));
    }
    if (!complete) {
        for (UINT64 number = first; number < store->next_id; number++) {
            store_withdraw(store, seeded(store, number));
        }
        store->next_id = first; /* nobody has seen these ids */
    }
    if (population) {
        population_free(store, population);
    }
    wfpsa_mutex_unlock(&store->lock);
    return complete;
}

/* ---- churn ---- */

#define CHURN_AT_ONCE_MAX 100000u
#define CHURN_MAX 1000000000u /* a second: beyond any machine, and far from overflow */

struct churn {
    struct population *population;
    UINT64 state;
    UINT64 per_second;
    UINT64 start; /* on the store's clock */
    UINT64 done;
};

void
churn_end(struct wfpsa_store *store)
{
    if (store->churn) {
        population_free(store, store->churn->population);
        wfpsa_free(store->churn);
        store->churn = NULL;
    }
}

void
churn_begin(struct wfpsa_store *store)
{
    if (store->churn) {
        store->churn->start = store_now(store);
        store->churn->done = 0;
    }
}

int
wfpsa_store_churn(struct wfpsa_store *store, uint64_t per_second, uint64_t seed)
{
    struct churn *churn = NULL;
    wfpsa_mutex_lock(&store->lock);
    store_settle(store);
    if (per_second) {
        churn = wfpsa_allocate_zeroed(1, sizeof *churn);
        struct population *population = churn ? population_new(store, store->count, WFPSA_PLAUSIBLE) : NULL;
        if (!population) {
            wfpsa_free(churn);
            wfpsa_mutex_unlock(&store->lock);
            return 0;
        }
        churn->population = population;
        churn->state = seed;
        churn->per_second = per_second < CHURN_MAX ? per_second : CHURN_MAX;
    }
    churn_end(store);
    store->churn = churn;
    churn_begin(store);
    wfpsa_condition_broadcast(&store->news);
    wfpsa_mutex_unlock(&store->lock);
    return 1;
}

/* A random context that is there, or NULL where there is none. */
static struct record *
any_record(const struct wfpsa_store *store, UINT64 *state)
{
    if (store->count == 0) {
        return NULL;
    }
    UINT32 slot = (UINT32)(next_random(state) % store->slots_used);
    while (!store_present(store, slot)) {
        slot = (slot + 1) % store->slots_used;
    }
    return store->slots[slot];
}

/* One comes, then one goes: among them may be the one that came. Without memory both wait for the next time. */
void
churn_catch_up(struct wfpsa_store *store)
{
    struct churn *churn = store->churn;
    if (!churn || store->stopped) {
        return;
    }
    UINT64 due = (store_now(store) - churn->start) * churn->per_second / 1000u;
    for (UINT32 n = 0; churn->done < due && n < CHURN_AT_ONCE_MAX; n++) {
        struct record *added = add_random(store, churn->population, &churn->state);
        if (!added) {
            return;
        }
        tell_added(store, added);
        churn->done++;
        struct record *old = any_record(store, &churn->state);
        if (old && !store_remove(store, old)) {
            return;
        }
    }
}

UINT64
churn_due(const struct wfpsa_store *store)
{
    const struct churn *churn = store->churn;
    if (!churn || store->stopped) {
        return UINT64_MAX;
    }
    return churn->start + ((churn->done + 1) * 1000u + churn->per_second - 1) / churn->per_second;
}
